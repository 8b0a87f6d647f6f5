/* test_passes.c - every pass alone, text in and text out; the verifier; schedule and placement
 * against independent checks; random graphs optimised, unoptimised and node by node.
 *
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <unistd.h>

#include "core/type.h"
#include "exec/exec.h"
#include "ops/families.h"
#include "random_graph.h"

static niz *z;

static void open_context(void)
{
    z = util_open();
}

/* ---- text in, text out ----------------------------------------------------------------------- */

#define MAX_LINES 64

/* The numbers after % between two places. */
static int references(const char *from, const char *to, uint32_t *out)
{
    int n = 0;
    for (const char *s = from; s < to; s++)
        if (*s == '%') out[n++] = (uint32_t)strtoul(s + 1, NULL, 10);
    return n;
}

static niz_dtype leaf_dtype(const char *type)
{
    niz_dtype d = NIZ_F32;
    niz_dtype_parse(type, strcspn(type, "["), &d);
    return d;
}

static niz_shape leaf_shape(const char *type)
{
    niz_shape s = {0};
    for (const char *p = strchr(type, '['); *p != ']' && p[1] != ']';)
        s.dim[s.rank++] = strtoll(p + 1, (char **)&p, 10);
    return s;
}

/* The node that line k of a text records, operands merged as they may be. */
static const niz_node *node_of_line(const char *text, const char *end, int k)
{
    static const double zeros[20000];
    char *part = strndup(text, (size_t)(end - text)), tail[32];
    niz_t in[MAX_LINES], out;
    int n = 0;
    for (const char *s = part; (s = strstr(s, " = data : ")); n++) {
        s += strlen(" = data : ");
        in[n] = niz_from(z, leaf_dtype(s), leaf_shape(s), zeros);
    }
    snprintf(tail, sizeof tail, "\nreturn %%%d", k);
    char *whole = malloc(strlen(part) + sizeof tail);
    sprintf(whole, "%s%s", part, tail);
    niz_parse(z, whole, n, in, 1, &out);
    ck_assert_msg(niz_error(z) == NIZ_OK, "%s of\n%s", niz_message(z), whole);
    free(part);
    free(whole);
    return &niz_recording_of(z)->g.node[out.id];
}

/* The graph of a text, just as it is written: nothing merged. */
static niz_work work_of(const char *text)
{
    niz_work w;
    niz_recording *r = niz_recording_of(z);
    niz_work_init(&w, r);
    w.out = niz_realloc(z, NULL, sizeof *w.out * MAX_LINES);
    int k = 0;
    for (const char *s = text, *end; strncmp(s, "return", 6); s = end + 1, k++) {
        uint32_t arg[NIZ_MAX_ARITY];
        end = strchr(s, '\n');
        const niz_node *n = node_of_line(text, end, k);
        int count = references(strchr(s, '='), strchr(s, ':'), arg);
        uint32_t id = niz_graph_add(&w.g, &(niz_node_spec){n->op, count, arg, niz_node_attrs(n),
                                                           (niz_dtype)n->dtype, n->shape, n->place,
                                                           true});
        ck_assert_uint_eq(id, (uint32_t)k);
        w.g.node[id].origin = id;
    }
    const char *last = strstr(text, "return");
    w.n_out = references(last, last + strlen(last), w.out);
    for (int i = 0; i < w.n_out; i++)
        if (w.g.node[w.out[i]].op != &niz_op_assign) w.n_want = i + 1;
    return w;
}

static char *text_of(const niz_work *w)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    niz_graph_text(f, &w->g, w->n_out, w->out, (niz_text_options){niz_recording_of(z), false});
    fclose(f);
    return text;
}

static niz_pass_env env_of(void)
{
    return (niz_pass_env){z, niz_recording_of(z), niz_fold};
}

static const niz_pass *pass_named(const char *name)
{
    for (const niz_pass *p = niz_pipeline; p->name; p++)
        if (!strcmp(p->name, name)) return p;
    ck_abort_msg("no pass %s", name);
    return NULL;
}

static void expect_pass(const char *pass, const char *what, const char *in, const char *out)
{
    open_context();
    niz_work w = work_of(in);
    niz_pass_env env = env_of();
    ck_assert_msg(niz_pass_run(&env, pass_named(pass), &w), "%s: %s", what, niz_message(z));
    char *got = text_of(&w);
    ck_assert_msg(!strcmp(got, out), "%s: of\n%scame\n%snot\n%s", what, in, got, out);
    free(got);
    niz_work_free(&w);
    expect_ok(z);
    niz_close(z);
}

typedef struct text_case {
    const char *what, *in, *out; /* out NULL: the same */
} text_case;

static void expect_all(const char *pass, const text_case *all, int n)
{
    for (int i = 0; i < n; i++)
        expect_pass(pass, all[i].what, all[i].in, all[i].out ? all[i].out : all[i].in);
}

#define X3 "%0 = data : f32[3]\n"
#define I3 "%0 = data : i32[3]\n"
#define LIT(v) "%1 = literal value=" v " : f32[]\n"
#define ILIT(v) "%1 = literal value=" v " : i32[]\n"

START_TEST(simplify_arithmetic)
{
    static const text_case all[] = {
        {"x * 1", X3 LIT("1") "%2 = mul %0 %1 : f32[3]\nreturn %2\n", X3 LIT("1") "return %0\n"},
        {"1 * x", X3 LIT("1") "%2 = mul %1 %0 : f32[3]\nreturn %2\n", X3 LIT("1") "return %0\n"},
        {"x / 1", X3 LIT("1") "%2 = div %0 %1 : f32[3]\nreturn %2\n", X3 LIT("1") "return %0\n"},
        {"1 / x", X3 LIT("1") "%2 = div %1 %0 : f32[3]\nreturn %2\n", NULL},
        {"x * -1", X3 LIT("-1") "%2 = mul %0 %1 : f32[3]\nreturn %2\n",
         X3 LIT("-1") "%2 = neg %0 : f32[3]\nreturn %2\n"},
        {"-1 / x", X3 LIT("-1") "%2 = div %1 %0 : f32[3]\nreturn %2\n", NULL},
        {"x * 0", X3 LIT("0") "%2 = mul %0 %1 : f32[3]\nreturn %2\n", NULL},
        {"x * 2", X3 LIT("2") "%2 = mul %0 %1 : f32[3]\nreturn %2\n", NULL},
        {"x + 0 is not x for -0", X3 LIT("0") "%2 = add %0 %1 : f32[3]\nreturn %2\n", NULL},
        {"x + -0", X3 LIT("-0") "%2 = add %0 %1 : f32[3]\nreturn %2\n", X3 LIT("-0") "return %0\n"},
        {"-0 + x", X3 LIT("-0") "%2 = add %1 %0 : f32[3]\nreturn %2\n", X3 LIT("-0") "return %0\n"},
        {"x - 0", X3 LIT("0") "%2 = sub %0 %1 : f32[3]\nreturn %2\n", X3 LIT("0") "return %0\n"},
        {"x - -0 is not x for -0", X3 LIT("-0") "%2 = sub %0 %1 : f32[3]\nreturn %2\n", NULL},
        {"0 - x is not -x for 0", X3 LIT("0") "%2 = sub %1 %0 : f32[3]\nreturn %2\n", NULL},
        {"x - 4.94066e-324", X3 LIT("4.94066e-324") "%2 = sub %0 %1 : f32[3]\nreturn %2\n", NULL},
        {"i + 0", I3 ILIT("0") "%2 = add %0 %1 : i32[3]\nreturn %2\n", I3 ILIT("0") "return %0\n"},
        {"i - 0", I3 ILIT("0") "%2 = sub %0 %1 : i32[3]\nreturn %2\n", I3 ILIT("0") "return %0\n"},
        {"a number of another shape stays",
         "%0 = data : f32[]\n%1 = literal value=1 : f32[]\n%2 = broadcast %1 dims=[3] : f32[3]\n"
         "%3 = mul %0 %2 : f32[3]\nreturn %3\n",
         NULL},
        {"through a broadcast",
         X3 LIT("1") "%2 = broadcast %1 dims=[3] : f32[3]\n%3 = mul %0 %2 : f32[3]\nreturn %3\n",
         X3 LIT("1") "%2 = broadcast %1 dims=[3] : f32[3]\nreturn %0\n"},
        {"-(-x)", X3 "%1 = neg %0 : f32[3]\n%2 = neg %1 : f32[3]\nreturn %2\n",
         X3 "%1 = neg %0 : f32[3]\nreturn %0\n"},
        {"a + -b", X3 "%1 = data : f32[3]\n%2 = neg %1 : f32[3]\n%3 = add %0 %2 : f32[3]\n"
         "return %3\n",
         X3 "%1 = data : f32[3]\n%2 = neg %1 : f32[3]\n%3 = sub %0 %1 : f32[3]\nreturn %3\n"},
        {"a - -b", X3 "%1 = data : f32[3]\n%2 = neg %1 : f32[3]\n%3 = sub %0 %2 : f32[3]\n"
         "return %3\n",
         X3 "%1 = data : f32[3]\n%2 = neg %1 : f32[3]\n%3 = add %0 %1 : f32[3]\nreturn %3\n"},
        {"-a + b stays", X3 "%1 = neg %0 : f32[3]\n%2 = data : f32[3]\n%3 = add %1 %2 : f32[3]\n"
         "return %3\n",
         NULL},
    };
    expect_all("simplify", all, NIZ_COUNT(all));
}
END_TEST

START_TEST(simplify_folds_literals)
{
    static const text_case all[] = {
        {"of f32 in f32",
         "%0 = literal value=0.1 : f32[]\n%1 = literal value=0.2 : f32[]\n"
         "%2 = add %0 %1 : f32[]\nreturn %2\n",
         "%0 = literal value=0.1 : f32[]\n%1 = literal value=0.2 : f32[]\n"
         "%2 = literal value=0.30000001192092896 : f32[]\nreturn %2\n"},
        {"of f64 in f64",
         "%0 = literal value=0.1 : f64[]\n%1 = literal value=0.2 : f64[]\n"
         "%2 = add %0 %1 : f64[]\nreturn %2\n",
         "%0 = literal value=0.1 : f64[]\n%1 = literal value=0.2 : f64[]\n"
         "%2 = literal value=0.30000000000000004 : f64[]\nreturn %2\n"},
        {"integers divide by 0",
         "%0 = literal value=7 : i32[]\n%1 = literal value=0 : i32[]\n%2 = div %0 %1 : i32[]\n"
         "return %2\n",
         "%0 = literal value=7 : i32[]\n%1 = literal value=0 : i32[]\n"
         "%2 = literal value=0 : i32[]\nreturn %2\n"},
        {"integers wrap",
         "%0 = literal value=2147483647 : i32[]\n%1 = add %0 %0 : i32[]\nreturn %1\n",
         "%0 = literal value=2147483647 : i32[]\n%1 = literal value=-2 : i32[]\nreturn %1\n"},
        {"no double holds it",
         "%0 = literal value=9007199254740991 : i64[]\n%1 = literal value=3 : i64[]\n"
         "%2 = mul %0 %1 : i64[]\nreturn %2\n",
         NULL},
        {"to bool",
         "%0 = literal value=1 : f32[]\n%1 = literal value=2 : f32[]\n%2 = lt %0 %1 : bool[]\n"
         "return %2\n",
         "%0 = literal value=1 : f32[]\n%1 = literal value=2 : f32[]\n"
         "%2 = literal value=1 : bool[]\nreturn %2\n"},
        {"casts",
         "%0 = literal value=0.1 : f64[]\n%1 = cast %0 to=f32 : f32[]\nreturn %1\n",
         "%0 = literal value=0.1 : f64[]\n%1 = literal value=0.10000000149011612 : f32[]\n"
         "return %1\n"},
        {"not what is no literal",
         "%0 = data : f32[]\n%1 = literal value=2 : f32[]\n%2 = mul %0 %1 : f32[]\nreturn %2\n",
         NULL},
        {"a chain", "%0 = literal value=4 : f32[]\n%1 = sqrt %0 : f32[]\n%2 = neg %1 : f32[]\n"
         "return %2\n",
         "%0 = literal value=4 : f32[]\n%1 = literal value=2 : f32[]\n"
         "%2 = literal value=-2 : f32[]\nreturn %2\n"},
    };
    expect_all("simplify", all, NIZ_COUNT(all));
}
END_TEST

#define M34 "%0 = data : f32[3,4]\n"

START_TEST(simplify_movement)
{
    static const text_case all[] = {
        {"nothing moved",
         M34 "%1 = reshape %0 dims=[3,4] : f32[3,4]\n%2 = permute %1 axes=[0,1] : f32[3,4]\n"
             "%3 = slice %2 start=[0,0] size=[3,4] step=[1,1] : f32[3,4]\n"
             "%4 = pad %3 value=0 lo=[0,0] hi=[0,0] gap=[0,0] : f32[3,4]\n"
             "%5 = cast %4 to=f32 : f32[3,4]\nreturn %5\n",
         M34 "return %0\n"},
        {"a flip moves", M34 "%1 = flip %0 axes=[0] : f32[3,4]\nreturn %1\n", NULL},
        {"a square transposed moves",
         "%0 = data : f32[3,3]\n%1 = permute %0 axes=[1,0] : f32[3,3]\nreturn %1\n", NULL},
        {"a sum over an axis of one keeps its type",
         "%0 = data : f32[1,3]\n%1 = sum %0 axis=0 : f32[3]\nreturn %1\n",
         "%0 = data : f32[1,3]\n%1 = reshape %0 dims=[3] : f32[3]\nreturn %1\n"},
        {"an argmax is no element",
         "%0 = data : f32[1,3]\n%1 = argmax %0 axis=0 : i64[3]\nreturn %1\n", NULL},
        {"reshapes", M34 "%1 = reshape %0 dims=[12] : f32[12]\n"
         "%2 = reshape %1 dims=[2,6] : f32[2,6]\nreturn %2\n",
         M34 "%1 = reshape %0 dims=[12] : f32[12]\n%2 = reshape %0 dims=[2,6] : f32[2,6]\n"
             "return %2\n"},
        {"permutes",
         "%0 = data : f32[2,3,4]\n%1 = permute %0 axes=[1,2,0] : f32[3,4,2]\n"
         "%2 = permute %1 axes=[1,0,2] : f32[4,3,2]\nreturn %2\n",
         "%0 = data : f32[2,3,4]\n%1 = permute %0 axes=[1,2,0] : f32[3,4,2]\n"
         "%2 = permute %0 axes=[2,1,0] : f32[4,3,2]\nreturn %2\n"},
        {"broadcasts",
         X3 "%1 = broadcast %0 dims=[2,3] : f32[2,3]\n"
             "%2 = broadcast %1 dims=[4,2,3] : f32[4,2,3]\nreturn %2\n",
         X3 "%1 = broadcast %0 dims=[2,3] : f32[2,3]\n"
             "%2 = broadcast %0 dims=[4,2,3] : f32[4,2,3]\nreturn %2\n"},
        {"a map broadcasts by itself",
         M34 "%1 = data : f32[4]\n%2 = broadcast %1 dims=[3,4] : f32[3,4]\n"
             "%3 = add %0 %2 : f32[3,4]\nreturn %3\n",
         M34 "%1 = data : f32[4]\n%2 = broadcast %1 dims=[3,4] : f32[3,4]\n"
             "%3 = add %0 %1 : f32[3,4]\nreturn %3\n"},
        {"unless no operand has the shape",
         "%0 = data : f32[4]\n%1 = data : f32[3,1]\n%2 = broadcast %0 dims=[2,3,4] : f32[2,3,4]\n"
         "%3 = add %2 %1 : f32[2,3,4]\nreturn %3\n",
         NULL},
        {"a map before a broadcast",
         X3 "%1 = broadcast %0 dims=[5,3] : f32[5,3]\n%2 = exp %1 : f32[5,3]\nreturn %2\n",
         X3 "%1 = broadcast %0 dims=[5,3] : f32[5,3]\n%2 = exp %0 : f32[3]\n"
            "%3 = broadcast %2 dims=[5,3] : f32[5,3]\nreturn %3\n"},
    };
    expect_all("simplify", all, NIZ_COUNT(all));
}
END_TEST

START_TEST(simplify_thin_contractions)
{
    static const text_case all[] = {
        {"matrix by vector",
         M34 "%1 = data : f32[4]\n%2 = contract %0 %1 batch=0 sum=1 : f32[3]\nreturn %2\n",
         M34 "%1 = data : f32[4]\n%2 = reshape %1 dims=[1,4] : f32[1,4]\n"
             "%3 = mul %0 %2 : f32[3,4]\n"
             "%4 = sum %3 axis=1 : f32[3]\n%5 = reshape %4 dims=[3] : f32[3]\nreturn %5\n"},
        {"transposed matrix by vector",
         M34 "%1 = data : f32[3]\n%2 = permute %0 axes=[1,0] : f32[4,3]\n"
             "%3 = contract %2 %1 batch=0 sum=1 : f32[4]\nreturn %3\n",
         M34 "%1 = data : f32[3]\n%2 = permute %0 axes=[1,0] : f32[4,3]\n"
             "%3 = reshape %1 dims=[1,3] : f32[1,3]\n%4 = permute %3 axes=[1,0] : f32[3,1]\n"
             "%5 = mul %0 %4 : f32[3,4]\n%6 = sum %5 axis=0 : f32[4]\n"
             "%7 = reshape %6 dims=[4] : f32[4]\nreturn %7\n"},
        {"matrix by matrix", M34 "%1 = data : f32[2,4]\n"
         "%2 = contract %0 %1 batch=0 sum=1 : f32[3,2]\nreturn %2\n",
         NULL},
        {"an outer product", "%0 = data : f32[3]\n%1 = data : f32[1]\n"
         "%2 = contract %0 %1 batch=0 sum=0 : f32[3,1]\nreturn %2\n",
         "%0 = data : f32[3]\n%1 = data : f32[1]\n%2 = reshape %0 dims=[3,1] : f32[3,1]\n"
         "%3 = reshape %1 dims=[1,1] : f32[1,1]\n%4 = mul %2 %3 : f32[3,1]\nreturn %4\n"},
        {"a sum over one index", "%0 = data : f32[2,3,1]\n%1 = data : f32[2,4,1]\n"
         "%2 = contract %0 %1 batch=1 sum=1 : f32[2,3,4]\nreturn %2\n",
         "%0 = data : f32[2,3,1]\n%1 = data : f32[2,4,1]\n%2 = reshape %0 dims=[2,3,1] : f32[2,3,1]\n"
         "%3 = reshape %1 dims=[2,1,4] : f32[2,1,4]\n%4 = mul %2 %3 : f32[2,3,4]\nreturn %4\n"},
    };
    expect_all("simplify", all, NIZ_COUNT(all));
}
END_TEST

START_TEST(merge_joins_equal_nodes)
{
    static const text_case all[] = {
        {"pure nodes", X3 "%1 = exp %0 : f32[3]\n%2 = exp %0 : f32[3]\n%3 = add %1 %2 : f32[3]\n"
         "return %3\n",
         X3 "%1 = exp %0 : f32[3]\n%2 = add %1 %1 : f32[3]\nreturn %2\n"},
        {"chains of them",
         X3 "%1 = exp %0 : f32[3]\n%2 = exp %0 : f32[3]\n%3 = neg %1 : f32[3]\n"
             "%4 = neg %2 : f32[3]\nreturn %3 %4\n",
         X3 "%1 = exp %0 : f32[3]\n%2 = neg %1 : f32[3]\nreturn %2 %2\n"},
        {"literals", "%0 = literal value=2 : f32[]\n%1 = literal value=2 : f32[]\n"
         "%2 = add %0 %1 : f32[]\nreturn %2\n",
         "%0 = literal value=2 : f32[]\n%1 = add %0 %0 : f32[]\nreturn %1\n"},
        {"not of another attribute", M34 "%1 = sum %0 axis=0 : f32[4]\n"
         "%2 = sum %0 axis=1 : f32[3]\nreturn %1 %2\n", NULL},
        {"not of another order", X3 "%1 = data : f32[3]\n%2 = sub %0 %1 : f32[3]\n"
         "%3 = sub %1 %0 : f32[3]\nreturn %2 %3\n", NULL},
        {"not data", X3 "%1 = data : f32[3]\n%2 = add %0 %1 : f32[3]\nreturn %2\n", NULL},
        {"not -0 and 0", "%0 = literal value=0 : f32[]\n%1 = literal value=-0 : f32[]\n"
         "%2 = add %0 %1 : f32[]\nreturn %2\n", NULL},
    };
    expect_all("merge", all, NIZ_COUNT(all));
}
END_TEST

START_TEST(dead_drops_what_nobody_needs)
{
    static const text_case all[] = {
        {"a chain", X3 "%1 = exp %0 : f32[3]\n%2 = neg %1 : f32[3]\n%3 = abs %0 : f32[3]\n"
         "return %3\n",
         X3 "%1 = abs %0 : f32[3]\nreturn %1\n"},
        {"leaves", X3 "%1 = data : f32[2]\nreturn %0\n", X3 "return %0\n"},
        {"not an assignment",
         "%0 = param of=\"w\" : f32[3]\n%1 = exp %0 : f32[3]\n%2 = assign %1 of=\"w\" : f32[3]\n"
         "%3 = neg %0 : f32[3]\nreturn %2\n",
         "%0 = param of=\"w\" : f32[3]\n%1 = exp %0 : f32[3]\n%2 = assign %1 of=\"w\" : f32[3]\n"
         "return %2\n"},
    };
    expect_all("dead", all, NIZ_COUNT(all));
}
END_TEST

START_TEST(join_stacks_terms)
{
    static const text_case all[] = {
        {"pads that fill the shape, in any order",
         "%0 = data : f32[2,3]\n%1 = data : f32[2,4]\n"
         "%2 = pad %1 value=0 lo=[0,3] hi=[0,0] gap=[0,0] : f32[2,7]\n"
         "%3 = pad %0 value=0 lo=[0,0] hi=[0,4] gap=[0,0] : f32[2,7]\n"
         "%4 = add %2 %3 : f32[2,7]\nreturn %4\n",
         "%0 = data : f32[2,4]\n%1 = data : f32[2,3]\n%2 = concat %1 %0 axis=1 : f32[2,7]\n"
         "return %2\n"},
        {"not pads that overlap",
         M34 "%1 = pad %0 value=0 lo=[0,0] hi=[0,2] gap=[0,0] : f32[3,6]\n"
             "%2 = pad %0 value=0 lo=[0,2] hi=[0,0] gap=[0,0] : f32[3,6]\n"
             "%3 = add %1 %2 : f32[3,6]\nreturn %3\n",
         NULL},
        {"a sum of contractions, the last first",
         "%0 = data : f32[8,2]\n%1 = data : f32[8,2]\n%2 = contract %0 %1 batch=0 sum=1 : f32[8,8]\n"
         "%3 = contract %1 %0 batch=0 sum=1 : f32[8,8]\n%4 = add %2 %3 : f32[8,8]\nreturn %4\n",
         "%0 = data : f32[8,2]\n%1 = data : f32[8,2]\n%2 = concat %1 %0 axis=1 : f32[8,4]\n"
         "%3 = concat %0 %1 axis=1 : f32[8,4]\n%4 = contract %2 %3 batch=0 sum=1 : f32[8,8]\n"
         "return %4\n"},
    };
    expect_all("join", all, NIZ_COUNT(all));
}
END_TEST

START_TEST(batch_stacks_rows)
{
    static const text_case all[] = {
        {"inputs with one weight",
         "%0 = data : f32[2,5]\n%1 = data : f32[2,5]\n%2 = data : f32[8,5]\n"
         "%3 = contract %0 %2 batch=0 sum=1 : f32[2,8]\n"
         "%4 = contract %1 %2 batch=0 sum=1 : f32[2,8]\nreturn %3 %4\n",
         "%0 = data : f32[2,5]\n%1 = data : f32[2,5]\n%2 = concat %0 %1 axis=0 : f32[4,5]\n"
         "%3 = data : f32[8,5]\n%4 = contract %2 %3 batch=0 sum=1 : f32[4,8]\n"
         "%5 = slice %4 start=[0,0] size=[2,8] step=[1,1] : f32[2,8]\n"
         "%6 = slice %4 start=[2,0] size=[2,8] step=[1,1] : f32[2,8]\nreturn %5 %6\n"},
        {"not one after the other",
         "%0 = data : f32[2,8]\n%1 = data : f32[8,8]\n"
         "%2 = contract %0 %1 batch=0 sum=1 : f32[2,8]\n"
         "%3 = contract %2 %1 batch=0 sum=1 : f32[2,8]\nreturn %3\n",
         NULL},
    };
    expect_all("batch", all, NIZ_COUNT(all));
}
END_TEST

START_TEST(layout_copies_where_it_must)
{
    static const text_case all[] = {
        {"a view for the user", M34 "%1 = permute %0 axes=[1,0] : f32[4,3]\nreturn %1\n",
         M34 "%1 = permute %0 axes=[1,0] : f32[4,3]\n%2 = copy %1 : f32[4,3]\nreturn %2\n"},
        {"a leaf for the user", M34 "return %0\n", M34 "%1 = copy %0 : f32[3,4]\nreturn %1\n"},
        {"nothing for a map", M34 "%1 = permute %0 axes=[1,0] : f32[4,3]\n%2 = exp %1 : f32[4,3]\n"
         "return %2\n", NULL},
        {"a reshape that strides express",
         M34 "%1 = reshape %0 dims=[2,6] : f32[2,6]\n%2 = exp %1 : f32[2,6]\nreturn %2\n", NULL},
        {"one that they do not",
         M34 "%1 = permute %0 axes=[1,0] : f32[4,3]\n%2 = reshape %1 dims=[12] : f32[12]\n"
             "%3 = exp %2 : f32[12]\nreturn %3\n",
         M34 "%1 = permute %0 axes=[1,0] : f32[4,3]\n%2 = copy %1 : f32[4,3]\n"
             "%3 = reshape %2 dims=[12] : f32[12]\n%4 = exp %3 : f32[12]\nreturn %4\n"},
        {"a transpose into a parameter",
         "%0 = param of=\"w\" : f32[3,3]\n%1 = permute %0 axes=[1,0] : f32[3,3]\n"
         "%2 = assign %1 of=\"w\" : f32[3,3]\nreturn %2\n",
         "%0 = param of=\"w\" : f32[3,3]\n%1 = permute %0 axes=[1,0] : f32[3,3]\n"
         "%2 = assign %1 of=\"w\" : f32[3,3]\n"
         "%3 = copy %1 : f32[3,3]\n%4 = assign %3 of=\"w\" : f32[3,3]\nreturn %4\n"},
        {"one value for two",
         X3 "%1 = exp %0 : f32[3]\nreturn %1 %1\n",
         X3 "%1 = exp %0 : f32[3]\n%2 = copy %1 : f32[3]\nreturn %1 %2\n"},
    };
    expect_all("layout", all, NIZ_COUNT(all));
}
END_TEST

/* ---- the driver ------------------------------------------------------------------------------ */

static const char wasteful[] =
    X3 LIT("1") "%2 = mul %0 %1 : f32[3]\n%3 = exp %2 : f32[3]\n%4 = exp %0 : f32[3]\n"
                "%5 = add %3 %4 : f32[3]\nreturn %5\n";

/* Nodes after the pipeline with one variable of the environment set. */
static uint32_t nodes_with(const char *variable, const char *value)
{
    niz_pass_count count[NIZ_MAX_PASSES];
    open_context();
    niz_work w = work_of(wasteful);
    niz_pass_env env = env_of();
    if (variable) setenv(variable, value, 1);
    ck_assert(niz_pipeline_run(&env, &w, count));
    if (variable) unsetenv(variable);
    uint32_t n = w.g.n;
    niz_work_free(&w);
    niz_close(z);
    return n;
}

START_TEST(passes_can_be_skipped_and_stopped)
{
    ck_assert_uint_eq(nodes_with(NULL, NULL), 3);              /* x, exp, add */
    ck_assert_uint_eq(nodes_with("NIZ_SKIP", "simplify"), 6);  /* the product stays */
    ck_assert_uint_eq(nodes_with("NIZ_SKIP", "merge,dead"), 4); /* both exps stay */
    ck_assert_uint_eq(nodes_with("NIZ_SKIP", "all"), 6);
    ck_assert_uint_eq(nodes_with("NIZ_STOP", "simplify"), 4);
    ck_assert_uint_eq(nodes_with("NIZ_SKIP", "simp"), 3);
    ck_assert_uint_eq(nodes_with("NIZ_SKIP", "layout,schedule"), 3); /* executors need these */
}
END_TEST

START_TEST(passes_can_be_dumped)
{
    FILE *to = tmpfile();
    char text[4096];
    fflush(stderr);
    int keep = dup(2);
    dup2(fileno(to), 2);
    nodes_with("NIZ_DUMP", "simplify,dead");
    fflush(stderr);
    dup2(keep, 2);
    close(keep);
    rewind(to);
    text[fread(text, 1, sizeof text - 1, to)] = 0;
    fclose(to);
    ck_assert_int_eq(util_count(text, "# after "), 3);
    ck_assert_ptr_nonnull(strstr(text, "# after simplify: 5 nodes, were 6"));
    ck_assert_ptr_nonnull(strstr(text, "%2 = exp %0 : f32[3]"));
    ck_assert_int_eq(util_count(text, "return %"), 3);
}
END_TEST

/* A pass that copies the graph and then does one thing wrong. */
static int wrong;

static bool bad_run(const niz_pass_env *env, const niz_work *in, niz_work *out)
{
    niz_rebuild b;
    (void)env;
    if (!niz_rebuild_begin(&b, in, out, false)) return false;
    for (uint32_t id = 0; id < in->g.n; id++) b.map[id] = niz_rebuild_copy(&b, id);
    niz_node *last = &out->g.node[out->g.n - 1];
    uint32_t *arg = (uint32_t *)(uintptr_t)last->arg;
    static const niz_shape other = {1, {4}};
    bool ok = niz_rebuild_end(&b);
    switch (wrong) {
    case 1: arg[0] = out->g.n - 1; break;
    case 2: last->dtype = NIZ_F64; break;
    case 3: last->shape = &other; break;
    case 4: last->n_arg = 1; break;
    case 5: last->dtype = 77; break;
    case 6: last->op = niz_op_find("and"); break;
    case 7: last->shape = NULL; break;
    case 8: arg[1] = UINT32_MAX; break;
    case 9: out->out[0] = out->g.n; break;
    case 10: last->op = niz_op_find("sum"), last->n_arg = 1; break;
    case 11: last->op = niz_op_find("concat"), last->n_arg = 0; break;
    case 12: last->op = NULL; break;
    default: break;
    }
    return ok;
}

START_TEST(a_broken_pass_is_caught)
{
    static const niz_pass bad = {"bad", bad_run, false, "for the test"};
    for (wrong = 0; wrong <= 12; wrong++) {
        open_context();
        niz_work w = work_of(wasteful);
        niz_pass_env env = env_of();
        ck_assert_msg(niz_pass_run(&env, &bad, &w) == (wrong == 0), "wrong %d is accepted", wrong);
        if (wrong)
            expect_error(z, NIZ_E_INTERNAL, "the pass bad broke the graph");
        else
            niz_work_free(&w);
        niz_close(z);
    }
}
END_TEST

/* ---- schedule -------------------------------------------------------------------------------- */

static int64_t peak_of(const niz_work *w)
{
    niz_placement p;
    niz_pass_env env = {.z = z};
    ck_assert(niz_place_all(&env, w, NULL, true, &p));
    int64_t peak = p.peak;
    niz_placement_free(z, &p);
    return peak;
}

START_TEST(schedule_lowers_the_peak_of_a_wide_graph)
{
    open_context();
    char text[8192], *s = text;
    s += sprintf(s, "%%0 = data : f32[1000]\n");
    for (int i = 1; i <= 10; i++) s += sprintf(s, "%%%d = literal value=%d : f32[]\n", i, i);
    for (int i = 1; i <= 10; i++) /* all wide ones first */
        s += sprintf(s, "%%%d = mul %%0 %%%d : f32[1000]\n", i + 10, i);
    for (int i = 1; i <= 10; i++)
        s += sprintf(s, "%%%d = sum %%%d axis=0 : f32[]\n", i + 20, i + 10);
    for (int i = 1; i <= 10; i++)
        s += sprintf(s, "%%%d = add %%%d %%%d : f32[]\n", i + 30, i + 20, i > 1 ? i + 29 : 1);
    sprintf(s, "return %%40\n");
    niz_work w = work_of(text);
    niz_pass_env env = env_of();
    int64_t before = peak_of(&w);
    ck_assert(niz_pass_run(&env, pass_named("schedule"), &w));
    int64_t after = peak_of(&w);
    ck_assert_int_ge(before, 40000);
    ck_assert_int_le(after, 13000);
    niz_work_free(&w);
    niz_close(z);
}
END_TEST

/* ---- placement, checked in the simplest way -------------------------------------------------- */

static uint32_t root_of(const niz_graph *g, uint32_t id)
{
    while (niz_op_form(g->node[id].op) == NIZ_FORM_VIEW) id = g->node[id].arg[0];
    return id;
}

static bool row_major(const niz_graph *g, uint32_t id)
{
    niz_layout_of *all = malloc(sizeof *all * (g->n + 1));
    for (uint32_t i = 0; i <= id; i++) niz_view_of(g, i, all);
    bool is = niz_view_is_contiguous(&all[id].view);
    free(all);
    return is;
}

/* Node user reads root only element for element. */
static bool elementwise(const niz_graph *g, uint32_t user, uint32_t root)
{
    const niz_node *n = &g->node[user];
    for (int i = 0; i < n->n_arg; i++) {
        const niz_node *x = &g->node[n->arg[i]];
        if (root_of(g, n->arg[i]) != root) continue;
        if (niz_op_form(n->op) != NIZ_FORM_MAP || !niz_shape_equal(x->shape, n->shape) ||
            niz_node_bytes(x) != niz_node_bytes(n) || !row_major(g, n->arg[i]))
            return false;
    }
    return true;
}

/* The last node that reads root's memory; g->n if it is needed to the end. */
static uint32_t last_reader(const niz_work *w, const niz_placement *p, uint32_t root)
{
    uint32_t last = root;
    for (uint32_t id = 0; id < w->g.n; id++) {
        const niz_node *n = &w->g.node[id];
        if (niz_op_form(n->op) == NIZ_FORM_VIEW) continue;
        for (int i = 0; i < n->n_arg; i++)
            if (root_of(&w->g, n->arg[i]) == root) last = id;
    }
    for (int i = 0; i < w->n_out; i++)
        if (root_of(&w->g, w->out[i]) == root && p->place[root].home == NIZ_HOME_ARENA &&
            niz_node_bytes(&w->g.node[root]))
            last = w->g.n;
    return last;
}

static void check_pair(const niz_work *w, const niz_placement *p, uint32_t a, uint32_t b)
{
    const niz_place_of *x = &p->place[a], *y = &p->place[b];
    if (!x->bytes || !y->bytes) return;
    if (x->offset >= y->offset + y->bytes || y->offset >= x->offset + x->bytes) return;
    uint32_t last = last_reader(w, p, a);
    if (last < b) return;
    if (last == b && elementwise(&w->g, b, a) && x->offset == y->offset) return;
    niz_graph_text(stderr, &w->g, w->n_out, w->out, (niz_text_options){niz_recording_of(z), false});
    ck_abort_msg("%%%u and %%%u share memory", a, b);
}

/* A parameter written in place: its old values are not needed any more. */
static void check_param(const niz_work *w, uint32_t value, int64_t index)
{
    for (uint32_t id = value; id < w->g.n; id++) {
        const niz_node *n = &w->g.node[id];
        if (niz_op_form(n->op) == NIZ_FORM_VIEW) continue;
        ck_assert_msg(!n->op->may_fail, "%%%u may fail after a parameter is written", id);
        for (int i = 0; i < n->n_arg; i++) {
            uint32_t root = root_of(&w->g, n->arg[i]);
            const niz_node *x = &w->g.node[root];
            if (x->op == &niz_op_param && x->attr[0] == index)
                ck_assert_msg(id == value && elementwise(&w->g, id, root),
                              "%%%u reads what %%%u has overwritten", id, value);
        }
    }
}

static void check_placement(const niz_work *w)
{
    niz_placement p;
    niz_pass_env env = {.z = z};
    ck_assert(niz_place_all(&env, w, NULL, true, &p));
    for (uint32_t b = 0; b < w->g.n; b++) {
        if (p.place[b].home == NIZ_HOME_PARAM) check_param(w, b, p.place[b].offset);
        if (p.place[b].home != NIZ_HOME_ARENA) continue;
        ck_assert_int_le(p.place[b].offset + p.place[b].bytes, p.peak);
        int64_t bytes = p.place[b].bytes; /* small values share a line */
        ck_assert_int_eq(p.place[b].offset % (bytes > 32 ? 64 : bytes > 16 ? 32 : bytes > 8 ? 16 : 8), 0);
        for (uint32_t a = 0; a < b; a++)
            if (p.place[a].home == NIZ_HOME_ARENA) check_pair(w, &p, a, b);
    }
    ck_assert_int_le(p.peak, p.naive);
    niz_placement_free(z, &p);
}

/* The work that a run of the random graph would make. */
static niz_work work_of_run(int n, const niz_t *want)
{
    niz_recording *r = niz_recording_of(z);
    niz_exec *e = niz_exec_of(z);
    niz_work w;
    niz_pass_count count[NIZ_MAX_PASSES];
    ck_assert(niz_run_collect(e, r, NIZ_HERE, n, want));
    ck_assert(niz_live_find(r, &e->live));
    ck_assert(niz_plan_work(e, r, false, &w, count));
    return w;
}

/* ---- random graphs --------------------------------------------------------------------------- */

#define WANTED 12

typedef struct outcome {
    niz_dtype dtype;
    int n;
    int64_t count[WANTED];
    void *value[WANTED];
    char params[33];
} outcome;

static void outcome_free(outcome *o)
{
    for (int i = 0; i < o->n; i++) free(o->value[i]);
}

typedef enum how { AT_ONCE, NODE_BY_NODE, AFTER_A_SHIFT } how;

/* Which values are wanted: some nodes, the last ones, gradients. */
static int choose(random_graph *g, niz_t *want)
{
    niz_t x[3] = {g->node[0], g->node[3], g->node[g->n / 2]}, loss = rg_loss(g);
    int n = 0;
    niz_grad(loss, 3, x, want);
    n = 3;
    want[n++] = loss;
    for (int i = 0; i < 3; i++) want[n++] = g->node[g->n - 1 - i];
    for (int i = 0; i < 3; i++) want[n++] = rg_any(g);
    want[n++] = niz_softmax(niz_reshape(g->node[g->n - 1], NIZ_SHAPE(-1)), 0);
    niz_t p = g->node[3];
    niz_assign(p, niz_sub(p, niz_mul(want[1], 0.1)));
    niz_assign(g->node[4], niz_tanh(g->node[4]));
    return n;
}

static void evaluate(random_graph *g, uint64_t seed, int nodes, how way, outcome *o)
{
    niz_t want[WANTED];
    NIZ_STEP(z);
    ck_assert_msg(rg_make(g, z, seed, nodes), "seed %d: %s", (int)seed, niz_message(z));
    o->n = choose(g, want);
    o->dtype = g->dtype;
    expect_ok(z);
    if (way == NODE_BY_NODE) {
        niz_recording *r = niz_recording_of(z);
        r->hold_assignments++;
        for (uint32_t id = 0; id < r->g.n; id++) {
            niz_t t = niz_handle(r, id);
            if (r->g.node[id].op != &niz_op_assign) NIZ_RUN(z, t);
        }
        r->hold_assignments--;
        expect_ok(z);
    }
    niz_run(z, o->n, want);
    expect_ok(z);
    for (int i = 0; i < o->n; i++) {
        o->count[i] = rg_count(want[i]);
        size_t bytes = (size_t)o->count[i] * niz_dtype_size(g->dtype);
        o->value[i] = malloc(bytes + 1);
        ck_assert_int_eq(niz_read(want[i], o->value[i], bytes), NIZ_OK);
    }
}

static outcome outcome_of(uint64_t seed, bool thin, int nodes, how way)
{
    random_graph g = {.thin = thin};
    outcome o;
    open_context();
    if (way == AFTER_A_SHIFT) { /* literals of this form become data */
        random_graph first = {.thin = thin, .shift = 0.37};
        outcome dropped;
        rg_make(&first, z, seed, 5); /* makes the parameters */
        niz_snapshot *s = niz_snapshot_take(z);
        evaluate(&first, seed, nodes, AT_ONCE, &dropped);
        outcome_free(&dropped);
        ck_assert_int_eq(niz_snapshot_restore(z, s), NIZ_OK);
        niz_snapshot_free(z, s);
    }
    evaluate(&g, seed, nodes, way, &o);
    niz_param_hash(z, o.params);
    niz_close(z);
    return o;
}

static void expect_equal(const outcome *a, const outcome *b, double bound, const char *what,
                         uint64_t seed)
{
    ck_assert_int_eq(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        int64_t bad = rg_differ(a->dtype, a->value[i], b->value[i], a->count[i], bound);
        ck_assert_msg(bad < 0, "seed %d, %s: value %d differs at element %d", (int)seed, what, i,
                      (int)bad);
    }
    if (bound == 0)
        ck_assert_msg(!strcmp(a->params, b->params), "seed %d, %s: parameters", (int)seed, what);
}

START_TEST(random_graphs_agree_optimised_and_not)
{
    int cases = util_cases(300, 10000);
    for (int c = 0; c < cases; c++) {
        uint64_t seed = 1000 + (uint64_t)c;
        bool thin = c % 4 == 0;
        int nodes = 8 + c % 50;
        outcome joined = outcome_of(seed, thin, nodes, AT_ONCE);
        setenv("NIZ_SKIP", "join", 1); /* which sums in another order, and only what it sees whole */
        outcome whole = outcome_of(seed, thin, nodes, AT_ONCE);
        expect_equal(&joined, &whole, whole.dtype == NIZ_F32 ? 1e-3 : 1e-10, "joined", seed);
        outcome_free(&joined);
        setenv("NIZ_SKIP", "all", 1);
        outcome plain = outcome_of(seed, thin, nodes, AT_ONCE);
        unsetenv("NIZ_SKIP");
        /* the gradient's contractions of thin graphs round otherwise, magnified by what follows */
        expect_equal(&whole, &plain, thin ? whole.dtype == NIZ_F32 ? 1e-3 : 1e-10 : 0,
                     "unoptimised", seed);
        outcome_free(&plain);
        setenv("NIZ_SKIP", "join", 1);
        outcome single = outcome_of(seed, thin, nodes, NODE_BY_NODE);
        unsetenv("NIZ_SKIP");
        expect_equal(&whole, &single, 0, "node by node", seed);
        outcome_free(&single);
        outcome_free(&whole);
    }
}
END_TEST

START_TEST(random_graphs_agree_with_literals_as_data)
{
    int cases = util_cases(150, 4000);
    for (int c = 0; c < cases; c++) {
        uint64_t seed = 5000 + (uint64_t)c;
        outcome literal = outcome_of(seed, c % 2, 30, AT_ONCE);
        outcome data = outcome_of(seed, c % 2, 30, AFTER_A_SHIFT);
        expect_equal(&literal, &data, 0, "literals as data", seed);
        outcome_free(&literal);
        outcome_free(&data);
    }
}
END_TEST

START_TEST(random_placements_never_overlap)
{
    int cases = util_cases(150, 4000);
    for (int c = 0; c < cases; c++) {
        random_graph g = {.thin = c % 2};
        niz_t want[WANTED];
        open_context();
        ck_assert(rg_make(&g, z, 9000 + (uint64_t)c, 8 + c % 50));
        int n = choose(&g, want);
        expect_ok(z);
        if (c % 3 == 0) setenv("NIZ_SKIP", "all", 1);
        niz_work w = work_of_run(n, want);
        unsetenv("NIZ_SKIP");
        check_placement(&w);
        niz_work_free(&w);
        niz_close(z);
    }
}
END_TEST

/* Updates of parameters among reads of their old and new versions: what is written in place, and
 * when, must not show. */
START_TEST(random_updates_agree_with_copies)
{
    int cases = util_cases(300, 10000);
    for (int c = 0; c < cases; c++) {
        double got[2][8];
        for (int skip = 0; skip < 2; skip++) {
            util_rng r = {77 + (uint64_t)c};
            z = niz_open(&(niz_options){.threads = 1, .trap_nan = skip}); /* trap_nan copies */
            for (int step = 0; step < 2; step++) {
                NIZ_STEP(z);
                niz_t p[4], acc = niz_scalar(z, NIZ_F64, 0);
                char name[16];
                for (int i = 0; i < 4; i++) {
                    snprintf(name, sizeof name, "p%d", i);
                    p[i] = niz_param(z, name, NIZ_F64, NIZ_SHAPE(3, 3), niz_uniform_init());
                }
                niz_t index = niz_copy_from(z, NIZ_I32, NIZ_SHAPE(3), ((int32_t[]){2, 0, 1}));
                for (int k = 0; k < 12; k++) {
                    int i = util_below(&r, 4);
                    niz_t a = p[i], b = p[util_below(&r, 4)], v;
                    switch (util_below(&r, 8)) {
                    case 0: v = niz_mul(niz_add(a, b), 0.5); break;
                    case 1: v = niz_transpose(b, 0, 1); break;
                    case 2: v = b; break;
                    case 3: v = niz_tanh(niz_matmul(a, b)); break;
                    case 4: v = niz_add(niz_flip(a, 0), niz_slice(b, 0, 1, 2, 1)); break;
                    case 5: v = niz_take(a, 0, index); break;
                    case 6: v = niz_sub(a, niz_sum(b, .axis = 1, .keepdims = true)); break;
                    default: v = niz_tanh(niz_neg(a)); break;
                    }
                    v = niz_clamp(v, -2, 2);
                    if (util_below(&r, 2)) acc = niz_add(acc, niz_sum(niz_mul(p[i], v)));
                    niz_assign(p[i], v);
                    if (util_below(&r, 2)) {
                        snprintf(name, sizeof name, "p%d", i);
                        p[i] = niz_find(z, name);
                    }
                }
                got[skip][step] = niz_item(acc);
                expect_ok(z);
            }
            for (int i = 0; i < 4; i++) {
                niz_param_info info = niz_param_get(z, i);
                double sum = 0;
                for (int k = 0; k < 9; k++) sum = sum * 1.1 + ((const double *)info.data)[k];
                got[skip][4 + i] = sum;
            }
            got[skip][2] = got[skip][3] = 0;
            niz_close(z);
        }
        ck_assert_msg(!memcmp(got[0], got[1], sizeof got[0]), "case %d", c);
    }
}
END_TEST

/* Twelve steps of a recurrence: x_t [5,33], h [5,24]. */
static void unrolled(const char *skip, double *out, int64_t *nodes)
{
    if (skip) setenv("NIZ_SKIP", skip, 1);
    z = util_open();
    {
        NIZ_STEP(z);
        niz_t a = niz_normal(z, NIZ_F64, NIZ_SHAPE(33, 24), 0, 1);
        niz_t b = niz_normal(z, NIZ_F64, NIZ_SHAPE(24, 24), 0, 1);
        niz_t all = niz_normal(z, NIZ_F64, NIZ_SHAPE(60, 33), 0, 1);
        niz_t h = niz_zeros(z, NIZ_F64, NIZ_SHAPE(5, 24));
        for (int t = 0; t < 12; t++) {
            niz_t x = niz_slice(all, 0, 5 * t, 5 * t + 5, 1);
            h = niz_tanh(niz_mul(niz_add(niz_matmul(x, a), niz_matmul(h, b)), 0.2));
        }
        niz_plan_summary summary;
        ck_assert_int_eq(niz_plan_print(NULL, z, 1, &h, &summary), NIZ_OK);
        *nodes = summary.nodes;
        ck_assert_int_eq(niz_read(h, out, sizeof *out * 5 * 24), NIZ_OK);
    }
    niz_close(z);
    unsetenv("NIZ_SKIP");
}

/* A row of a contraction does not depend on the others: stacking them is free of rounding. */
START_TEST(batch_changes_no_bit)
{
    double p[5 * 24], q[5 * 24];
    int64_t with, without;
    unrolled(NULL, p, &with);
    unrolled("batch", q, &without);
    ck_assert_int_ne(with, without);
    ck_assert_mem_eq(p, q, sizeof p);
}
END_TEST

int main(void)
{
    UTIL_MAIN("passes", batch_changes_no_bit, simplify_arithmetic, simplify_folds_literals, simplify_movement,
              simplify_thin_contractions, merge_joins_equal_nodes, dead_drops_what_nobody_needs,
              join_stacks_terms, batch_stacks_rows,
              layout_copies_where_it_must, passes_can_be_skipped_and_stopped, passes_can_be_dumped,
              a_broken_pass_is_caught, schedule_lowers_the_peak_of_a_wide_graph,
              random_graphs_agree_optimised_and_not, random_graphs_agree_with_literals_as_data,
              random_placements_never_overlap, random_updates_agree_with_copies);
}
