"""The works of bench/works in PyTorch, eager or compiled, from the same numbers.

    peer_torch.py eager|compile NAME [THREADS]

prints one line of JSON.  SPDX-License-Identifier: MIT"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import peer

C = 128


# ---- networks: parameters are named as libniz names them ----------------------------------------


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 128), nn.Linear(128, 10)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


class TanhMlp(Mlp):
    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


class MlpAdam(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 512), nn.Linear(512, 512), nn.Linear(512, 10)

    def forward(self, x):
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x)))))


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(3136, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, k, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(k, k, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(k), nn.BatchNorm2d(k)
        self.skip = None
        if stride != 1:
            self.skip = nn.Conv2d(c, k, 1, stride, bias=False)
            self.skip_bn = nn.BatchNorm2d(k)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.skip is not None:
            x = self.skip_bn(self.skip(x))
        return F.relu(x + y)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.block0, self.block1, self.block2 = Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.stem_bn(self.stem(x)))
        x = self.block2(self.block1(self.block0(x)))
        return self.fc(x.mean((2, 3)))


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(peer.TOKENS, C), nn.Linear(C, peer.TOKENS)

    def forward(self, x):
        return self.out(self.hidden(self.embed(x))).view(-1, peer.TOKENS)


class Lstm(Sequences):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(C, C, batch_first=True)

    def hidden(self, x):
        return self.lstm(x)[0]


class Gru(Sequences):
    def __init__(self):
        super().__init__()
        self.x, self.h = nn.Linear(C, 3 * C), nn.Linear(C, 3 * C)

    def cell(self, x, h):
        a, b = self.x(x), self.h(h)
        gates = torch.sigmoid(a[:, : 2 * C] + b[:, : 2 * C])
        r, z = gates[:, :C], gates[:, C:]
        n = torch.tanh(a[:, 2 * C :] + r * b[:, 2 * C :])
        return (1 - z) * n + z * h

    def hidden(self, x):
        h, y = torch.zeros(x.shape[0], C), []
        for t in range(peer.T):
            h = self.cell(x[:, t], h)
            y.append(h)
        return torch.stack(y, 1)


class GptBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def attention(self, x):
        b = x.shape[0]
        q, k, v = self.qkv(x).view(b, peer.T, 3, 4, C // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(b, peer.T, C))

    def forward(self, x):
        x = x + self.attention(self.ln1(x))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Gpt(Sequences):
    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(peer.T, C))
        self.block0, self.block1, self.block2, self.block3 = (GptBlock() for _ in range(4))
        self.ln = nn.LayerNorm(C)

    def hidden(self, x):
        x = x + self.place
        for block in (self.block0, self.block1, self.block2, self.block3):
            x = block(x)
        return self.ln(x)


def sgd(p):
    return torch.optim.SGD(p, lr=0.01)


def sgd_momentum(p):
    return torch.optim.SGD(p, lr=0.01, momentum=0.9)


def adam(p):
    return torch.optim.Adam(p, lr=1e-3)


def adamw(p):
    return torch.optim.AdamW(p, lr=1e-3)


TRAINED = {
    "mlp1": (Mlp, sgd),
    "mlp64": (Mlp, sgd),
    "mlp_adam128": (MlpAdam, adam),
    "lenet64": (LeNet, sgd),
    "resnet32": (ResNet, sgd_momentum),
    "lstm32": (Lstm, adam),
    "gru16": (Gru, adam),
    "gpt8": (Gpt, adamw),
}


# ---- steps --------------------------------------------------------------------------------------


def tensors(name):
    """The data, a tuple of tensors a batch."""

    def one(x):
        return torch.from_numpy(x.astype(np.int64) if x.dtype == np.int32 else x)

    return [tuple(one(x) for x in batch) for batch in peer.data(name)]


def fill(net):
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(torch.from_numpy(peer.parameter(name, tuple(p.shape))))
    return net


def norm(tensors):
    return sum(float((g.double() ** 2).sum()) for g in tensors) ** 0.5


def training(name, compile):
    make, optimiser = TRAINED[name]
    net = fill(make())
    optim = optimiser(net.parameters())
    forward = compile(lambda x, y: F.cross_entropy(net(x), y))
    batches, at = tensors(name), 0

    def step(check):
        nonlocal at
        loss = forward(*batches[at])
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        at = (at + 1) % len(batches)
        return loss.item() if check else 0

    return step


def fuse4m(compile):
    (a, t), = tensors("fuse4m")
    a.requires_grad_()

    @compile
    def loss(a, t):
        robust = torch.sqrt(1 + (1.5 * torch.tanh(a) - t) ** 2) - 1
        return (robust + 0.01 * torch.log1p(torch.exp(-a))).mean()

    def step(check):
        y = loss(a, t)
        (g,) = torch.autograd.grad(y, a)
        return y.item() + norm([g]) if check else 0

    return step


def softmax2m(compile):
    (x,), = tensors("softmax2m")
    x.requires_grad_()

    @compile
    def loss(x):
        return (torch.softmax(F.layer_norm(x, (peer.COLUMNS,)), -1) ** 2).sum()

    def step(check):
        (g,) = torch.autograd.grad(loss(x), x)
        return norm([g]) if check else 0

    return step


def hvp64(compile):
    """Eager: differentiated twice, the faster way there.  Compiled: torch.func, which it can."""
    net = fill(TanhMlp())
    params = dict(net.named_parameters())
    v = [torch.from_numpy(x) for x in peer.hvp_vectors([tuple(p.shape) for p in params.values()])]
    batches, at = tensors("hvp64"), 0

    def twice(x, y):
        p = list(params.values())
        g = torch.autograd.grad(F.cross_entropy(net(x), y), p, create_graph=True)
        return torch.autograd.grad(g, p, v)

    def forward_over_reverse(p, v, x, y):
        def loss(p):
            return F.cross_entropy(torch.func.functional_call(net, p, (x,)), y)

        return torch.func.jvp(torch.func.grad(loss), (p,), (v,))[1]

    compiled = compile(forward_over_reverse)
    tangents = dict(zip(params, v))
    plain = {k: p.detach() for k, p in params.items()}

    def step(check):
        nonlocal at
        if compiled is forward_over_reverse:
            h = twice(*batches[at])
        else:
            h = list(compiled(plain, tangents, *batches[at]).values())
        at = (at + 1) % len(batches)
        return norm(h) if check else 0

    return step


def lstm14(compile):
    (x,), = tensors("lstm14")
    names = [[[f"layer{k}.gate{j}.{n}" for n in "wub"] for j in range(4)] for k in range(2)]
    flat = [n for layer in names for gate in layer for n in gate]
    w = {n: torch.from_numpy(peer.parameter(n, (peer.WIDTH14,), np.float64)) for n in flat}
    for p in w.values():
        p.requires_grad_()

    def cell(gates, x, h, c):
        a = [w[u] * x + w[r] * h + w[b] for u, r, b in gates]
        i, f, g, o = torch.sigmoid(a[0]), torch.sigmoid(a[1]), torch.tanh(a[2]), torch.sigmoid(a[3])
        c = f * c + i * g
        return o * torch.tanh(c), c

    @compile
    def loss(x):
        state = [(torch.zeros(peer.WIDTH14, dtype=torch.float64),) * 2 for _ in range(2)]
        for t in range(peer.STEPS14):
            y = x[t]
            for k in range(2):
                state[k] = cell(names[k], y, *state[k])
                y = state[k][0]
        return (y**2).mean()

    def step(check):
        g = torch.autograd.grad(loss(x), list(w.values()))
        return norm(g) if check else 0

    return step


GRADIENTS = {"fuse4m": fuse4m, "softmax2m": softmax2m, "hvp64": hvp64, "lstm14": lstm14}


def main():
    how, name = sys.argv[1:3]
    if len(sys.argv) > 3:
        torch.set_num_threads(int(sys.argv[3]))
    compile = torch.compile if how == "compile" else lambda f: f
    step = training(name, compile) if name in TRAINED else GRADIENTS[name](compile)
    peer.measure(name, step)


if __name__ == "__main__":
    main()
