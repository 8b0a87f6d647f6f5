/* dead.c - drops what no output needs.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "passes/pass.h"

bool niz_dead(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_rebuild b;
    if (!niz_rebuild_begin(&b, in, out, false)) return false;
    bool *needed = niz_realloc(env->z, NULL, in->g.n + 1);
    if (!needed) {
        b.failed = true;
        return niz_rebuild_end(&b);
    }
    memset(needed, 0, in->g.n + 1);
    for (int i = 0; i < in->n_out; i++) needed[in->out[i]] = true;
    for (uint32_t id = in->g.n; id-- > 0;)
        if (needed[id])
            for (int i = 0; i < in->g.node[id].n_arg; i++) needed[in->g.node[id].arg[i]] = true;
    for (uint32_t id = 0; id < in->g.n && !b.failed; id++)
        if (needed[id]) b.map[id] = niz_rebuild_copy(&b, id);
    niz_free(env->z, needed);
    return niz_rebuild_end(&b);
}
