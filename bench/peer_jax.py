"""The works of bench/works in JAX, jitted, from the same numbers.

    peer_jax.py NAME [THREADS]

prints one line of JSON.  XLA takes its threads from the cores that the process may use, so
bench/compare.py starts it with as many.  SPDX-License-Identifier: MIT"""

import os
import sys

if len(sys.argv) > 2:  # before XLA counts the cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

import jax
import jax.numpy as jnp
import numpy as np

import peer

C, HEADS = 128, 4


# ---- layers: p is a dictionary of parameters, named as libniz names them ------------------------


def linear(p, name, x):
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def layer_norm(p, name, x):
    d = x - x.mean(-1, keepdims=True)
    y = d * jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    return y * p[name + ".weight"] + p[name + ".bias"]


def batch_norm(p, name, x):
    """Of this batch.  The running moments are state that the caller keeps: p gets the new ones."""
    m, v = x.mean((0, 2, 3)), x.var((0, 2, 3))
    n = x.size / x.shape[1]
    for slot, seen in (("running_mean", m), ("running_var", v * n / (n - 1))):
        old = p["state"][f"{name}.{slot}"]
        p["next"][f"{name}.{slot}"] = 0.9 * old + 0.1 * jax.lax.stop_gradient(seen)
    scale = p[name + ".weight"] * jax.lax.rsqrt(v + 1e-5)
    return (x - m[:, None, None]) * scale[:, None, None] + p[name + ".bias"][:, None, None]


def conv(p, name, x, stride=1, pad=1):
    w = p[name + ".weight"]
    y = jax.lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad)] * 2)
    bias = p.get(name + ".bias")
    return y if bias is None else y + bias[:, None, None]


def max_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def cross_entropy(logits, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()


def gelu(x):
    return jax.nn.gelu(x, approximate=False)


# ---- networks -----------------------------------------------------------------------------------


def mlp(p, x):
    return linear(p, "fc2", jax.nn.relu(linear(p, "fc1", x)))


def tanh_mlp(p, x):
    return linear(p, "fc2", jnp.tanh(linear(p, "fc1", x)))


def mlp_adam(p, x):
    return linear(p, "fc3", gelu(linear(p, "fc2", gelu(linear(p, "fc1", x)))))


def lenet(p, x):
    x = max_pool(jax.nn.relu(conv(p, "conv1", x)))
    x = max_pool(jax.nn.relu(conv(p, "conv2", x)))
    return linear(p, "fc2", jax.nn.relu(linear(p, "fc1", x.reshape(x.shape[0], -1))))


def block(p, name, x, stride):
    y = jax.nn.relu(batch_norm(p, name + ".bn1", conv(p, name + ".conv1", x, stride)))
    y = batch_norm(p, name + ".bn2", conv(p, name + ".conv2", y))
    if stride != 1:
        x = batch_norm(p, name + ".skip_bn", conv(p, name + ".skip", x, stride, 0))
    return jax.nn.relu(x + y)


def resnet(p, x):
    x = jax.nn.relu(batch_norm(p, "stem_bn", conv(p, "stem", x)))
    for i, stride in enumerate((1, 2, 2)):
        x = block(p, f"block{i}", x, stride)
    return linear(p, "fc", x.mean((2, 3)))


def tokens(p, hidden, x):
    return linear(p, "out", hidden(p, p["embed.weight"][x])).reshape(-1, peer.TOKENS)


def lstm(p, x):
    """The products with weight_ih for all steps at once, then a scan."""
    a = x @ p["lstm.weight_ih_l0"].T + p["lstm.bias_ih_l0"]

    def cell(state, a):
        h, c = state
        i, f, g, o = jnp.split(a + h @ p["lstm.weight_hh_l0"].T + p["lstm.bias_hh_l0"], 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[0], C))
    return jax.lax.scan(cell, (zero, zero), a.swapaxes(0, 1))[1].swapaxes(0, 1)


def gru(p, x):
    def cell(x, h):
        a, b = linear(p, "x", x), linear(p, "h", h)
        gates = jax.nn.sigmoid(a[:, : 2 * C] + b[:, : 2 * C])
        r, z = gates[:, :C], gates[:, C:]
        n = jnp.tanh(a[:, 2 * C :] + r * b[:, 2 * C :])
        return (1 - z) * n + z * h

    h, y = jnp.zeros((x.shape[0], C)), []
    for t in range(peer.T):
        h = cell(x[:, t], h)
        y.append(h)
    return jnp.stack(y, 1)


def attention(p, name, x):
    b = x.shape[0]
    q, k, v = linear(p, name + ".qkv", x).reshape(b, peer.T, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)
    a = q @ k.swapaxes(-1, -2) * (C // HEADS) ** -0.5
    a = jnp.where(jnp.tril(jnp.ones((peer.T, peer.T), bool)), a, -jnp.inf)
    y = jax.nn.softmax(a, -1) @ v
    return linear(p, name + ".proj", y.transpose(0, 2, 1, 3).reshape(b, peer.T, C))


def gpt(p, x):
    x = x + p["place"]
    for i in range(4):
        n = f"block{i}"
        x = x + attention(p, n, layer_norm(p, n + ".ln1", x))
        x = x + linear(p, n + ".down", gelu(linear(p, n + ".up", layer_norm(p, n + ".ln2", x))))
    return layer_norm(p, "ln", x)


# ---- parameters: names and shapes ---------------------------------------------------------------


def linear_shapes(name, c, k):
    return {name + ".weight": (k, c), name + ".bias": (k,)}


def norm_shapes(name, c):
    return {name + ".weight": (c,), name + ".bias": (c,)}


def mlp_shapes():
    return linear_shapes("fc1", 784, 128) | linear_shapes("fc2", 128, 10)


def mlp_adam_shapes():
    return (linear_shapes("fc1", 784, 512) | linear_shapes("fc2", 512, 512)
            | linear_shapes("fc3", 512, 10))


def lenet_shapes():
    return ({"conv1.weight": (32, 1, 3, 3), "conv1.bias": (32,), "conv2.weight": (64, 32, 3, 3),
             "conv2.bias": (64,)} | linear_shapes("fc1", 3136, 128) | linear_shapes("fc2", 128, 10))


def resnet_shapes():
    s = {"stem.weight": (16, 3, 3, 3)} | norm_shapes("stem_bn", 16) | linear_shapes("fc", 64, 10)
    for i, (c, k) in enumerate(((16, 16), (16, 32), (32, 64))):
        n = f"block{i}."
        s |= {n + "conv1.weight": (k, c, 3, 3), n + "conv2.weight": (k, k, 3, 3)}
        s |= norm_shapes(n + "bn1", k) | norm_shapes(n + "bn2", k)
        if i > 0:
            s |= {n + "skip.weight": (k, c, 1, 1)} | norm_shapes(n + "skip_bn", k)
    return s


def token_shapes():
    return {"embed.weight": (peer.TOKENS, C)} | linear_shapes("out", C, peer.TOKENS)


def lstm_shapes():
    return token_shapes() | {"lstm.weight_ih_l0": (4 * C, C), "lstm.weight_hh_l0": (4 * C, C),
                             "lstm.bias_ih_l0": (4 * C,), "lstm.bias_hh_l0": (4 * C,)}


def gru_shapes():
    return token_shapes() | linear_shapes("x", C, 3 * C) | linear_shapes("h", C, 3 * C)


def gpt_shapes():
    s = token_shapes() | {"place": (peer.T, C)} | norm_shapes("ln", C)
    for i in range(4):
        n = f"block{i}."
        s |= norm_shapes(n + "ln1", C) | norm_shapes(n + "ln2", C)
        s |= linear_shapes(n + "qkv", C, 3 * C) | linear_shapes(n + "proj", C, C)
        s |= linear_shapes(n + "up", C, 4 * C) | linear_shapes(n + "down", 4 * C, C)
    return s


def filled(shapes, dtype=np.float32):
    return {name: jnp.asarray(peer.parameter(name, shape, dtype)) for name, shape in shapes.items()}


# ---- optimisers: (state at first, update) -------------------------------------------------------


def zeros(p):
    return jax.tree.map(jnp.zeros_like, p)


def sgd(p, g, state):
    return jax.tree.map(lambda p, g: p - 0.01 * g, p, g), state


def sgd_momentum(p, g, v):
    v = jax.tree.map(lambda v, g: 0.9 * v + g, v, g)
    return jax.tree.map(lambda p, v: p - 0.01 * v, p, v), v


def adam(p, g, state, decay=0.0, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    pace, spread = lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
    p = jax.tree.map(
        lambda p, m, v: p * (1 - lr * decay) - pace * m / (jnp.sqrt(v) / spread + eps), p, m, v
    )
    return p, (m, v, t)


def adamw(p, g, state):
    return adam(p, g, state, decay=0.01)


def adam_state(p):
    return zeros(p), zeros(p), jnp.float32(0)


def no_state(p):
    return ()


TRAINED = {
    "mlp1": (mlp, mlp_shapes, sgd, no_state),
    "mlp64": (mlp, mlp_shapes, sgd, no_state),
    "mlp_adam128": (mlp_adam, mlp_adam_shapes, adam, adam_state),
    "lenet64": (lenet, lenet_shapes, sgd, no_state),
    "resnet32": (resnet, resnet_shapes, sgd_momentum, zeros),
    "lstm32": (lambda p, x: tokens(p, lstm, x), lstm_shapes, adam, adam_state),
    "gru16": (lambda p, x: tokens(p, gru, x), gru_shapes, adam, adam_state),
    "gpt8": (lambda p, x: tokens(p, gpt, x), gpt_shapes, adamw, adam_state),
}


# ---- steps --------------------------------------------------------------------------------------


def arrays(name):
    return [tuple(jnp.asarray(x) for x in batch) for batch in peer.data(name)]


def norm(arrays):
    return sum(float((np.asarray(g, np.float64) ** 2).sum()) for g in arrays) ** 0.5


def running_moments(shapes):
    """Of batch norms, which are what is called ...bn...: mean 0, variance 1."""
    s = {}
    for name, shape in shapes.items():
        if name.endswith(".weight") and len(shape) == 1 and "bn" in name:
            s[name[:-6] + "running_mean"] = jnp.zeros(shape)
            s[name[:-6] + "running_var"] = jnp.ones(shape)
    return s


def training(name):
    net, shapes, update, state_of = TRAINED[name]
    p = filled(shapes())
    state, moments = state_of(p), running_moments(shapes())
    batches, at = arrays(name), 0

    def loss(p, moments, x, y):
        after = {}
        return cross_entropy(net(p | {"state": moments, "next": after}, x), y), after

    def whole(p, state, moments, x, y):
        (y, moments), g = jax.value_and_grad(loss, has_aux=True)(p, moments, x, y)
        p, state = update(p, g, state)
        return p, state, moments, y

    whole = jax.jit(whole, donate_argnums=(0, 1, 2))

    def step(check):
        nonlocal p, state, moments, at
        p, state, moments, y = whole(p, state, moments, *batches[at])
        jax.block_until_ready((p, state, y))
        at = (at + 1) % len(batches)
        return float(y) if check else 0

    return step


def fuse4m():
    (a, t), = arrays("fuse4m")

    def loss(a, t):
        robust = jnp.sqrt(1 + (1.5 * jnp.tanh(a) - t) ** 2) - 1
        return (robust + 0.01 * jnp.log1p(jnp.exp(-a))).mean()

    both = jax.jit(jax.value_and_grad(loss))

    def step(check):
        y, g = jax.block_until_ready(both(a, t))
        return float(y) + norm([g]) if check else 0

    return step


def softmax2m():
    (x,), = arrays("softmax2m")

    def loss(x):
        d = x - x.mean(-1, keepdims=True)
        y = d * jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5)
        return (jax.nn.softmax(y, -1) ** 2).sum()

    grad = jax.jit(jax.grad(loss))

    def step(check):
        g = grad(x).block_until_ready()
        return norm([g]) if check else 0

    return step


def hvp64():
    shapes = mlp_shapes()
    p = filled(shapes)
    v = dict(zip(shapes, map(jnp.asarray, peer.hvp_vectors(list(shapes.values())))))
    batches, at = arrays("hvp64"), 0

    @jax.jit
    def hvp(p, v, x, y):
        grad = jax.grad(lambda p: cross_entropy(tanh_mlp(p, x), y))
        return jax.jvp(grad, (p,), (v,))[1]

    def step(check):
        nonlocal at
        h = jax.block_until_ready(hvp(p, v, *batches[at]))
        at = (at + 1) % len(batches)
        return norm(h.values()) if check else 0

    return step


def lstm14():
    jax.config.update("jax_enable_x64", True)
    (x,), = arrays("lstm14")
    names = [f"layer{k}.gate{j}.{n}" for k in range(2) for j in range(4) for n in "wub"]
    w = filled({n: (peer.WIDTH14,) for n in names}, np.float64)

    def cell(w, k, x, h, c):
        def gate(j):
            n = f"layer{k}.gate{j}."
            return w[n + "w"] * x + w[n + "u"] * h + w[n + "b"]

        i, f, o = (jax.nn.sigmoid(gate(j)) for j in (0, 1, 3))
        c = f * c + i * jnp.tanh(gate(2))
        return o * jnp.tanh(c), c

    def loss(w, x):
        state = [(jnp.zeros(peer.WIDTH14),) * 2 for _ in range(2)]
        for t in range(peer.STEPS14):
            y = x[t]
            for k in range(2):
                state[k] = cell(w, k, y, *state[k])
                y = state[k][0]
        return (y**2).mean()

    grad = jax.jit(jax.grad(loss))

    def step(check):
        g = jax.block_until_ready(grad(w, x))
        return norm(g.values()) if check else 0

    return step


GRADIENTS = {"fuse4m": fuse4m, "softmax2m": softmax2m, "hvp64": hvp64, "lstm14": lstm14}


def main():
    name = sys.argv[1]
    peer.measure(name, training(name) if name in TRAINED else GRADIENTS[name]())


if __name__ == "__main__":
    main()
