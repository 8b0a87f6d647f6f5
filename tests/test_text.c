/* test_text.c - graphs as text: printed, read back, cut and changed; and as pictures.
 *
 * SPDX-License-Identifier: MIT */
#include <locale.h>
#include <math.h>
#include <unistd.h>

#include "random_graph.h"

/* ---- helpers --------------------------------------------------------------------------------- */

/* The text without the places, which another recording does not share. */
static void strip_places(char *text)
{
    char *to = text;
    for (const char *s = text; *s;) {
        if (!strncmp(s, "  #", 3))
            while (*s && *s != '\n') s++;
        else
            *to++ = *s++;
    }
    *to = 0;
}

/* Leaves for the data lines of a text, of the right types. */
static int leaves_of(niz *z, const char *text, niz_t *in)
{
    int n = 0;
    static const double zeros[4096];
    for (const char *s = text; (s = strstr(s, " = data : ")); n++) {
        s += strlen(" = data : ");
        niz_dtype dtype = NIZ_F32;
        for (int d = 0; d < NIZ_N_DTYPES; d++) {
            size_t length = strlen(niz_dtype_name((niz_dtype)d));
            if (!strncmp(s, niz_dtype_name((niz_dtype)d), length) && s[length] == '[')
                dtype = (niz_dtype)d;
        }
        niz_shape shape = {0};
        for (s = strchr(s, '['); *s != ']' && s[1] != ']';)
            shape.dim[shape.rank++] = strtoll(s + 1, (char **)&s, 10);
        in[n] = niz_from(z, dtype, shape, zeros);
    }
    return n;
}

/* Reads text into a new context and prints it again; NULL if it is refused. */
static char *again(const char *text, niz **in)
{
    niz_t leaf[256], out;
    *in = util_open();
    int n = leaves_of(*in, text, leaf);
    if (niz_parse(*in, text, n, leaf, 1, &out)) return NULL;
    char *s = util_text(out);
    strip_places(s);
    return s;
}

static void expect_round_trip(const char *text)
{
    niz *a, *b;
    char *second = again(text, &a);
    ck_assert_msg(second != NULL, "%s\nof\n%s", niz_message(a), text);
    char *third = again(second, &b);
    ck_assert_msg(third != NULL, "%s\nof\n%s", niz_message(b), second);
    ck_assert_str_eq(second, third);
    ck_assert_int_eq(util_count(text, "\n"), util_count(second, "\n"));
    free(second);
    free(third);
    niz_close(a);
    niz_close(b);
}

static const char every_kind[] =
    "%0 = data : f32[2,6]\n"
    "%1 = data : i32[2,3]\n"
    "%2 = data : i64[4]\n"
    "%3 = param of=\"a \\\"b\\\\c\\x0a.w\" : f32[2,6]\n"
    "%4 = literal value=0.1 : f32[]\n"
    "%5 = literal value=-0 : f64[]\n"
    "%6 = literal value=inf : f32[]\n"
    "%7 = literal value=nan : f32[]\n"
    "%8 = literal value=4.94066e-324 : f64[]\n"
    "%9 = mul %0 %4 : f32[2,6]\n"
    "%10 = add %9 %3 : f32[2,6]\n"
    "%11 = cast %10 to=f64 : f64[2,6]\n"
    "%12 = add %11 %5 : f64[2,6]\n"
    "%13 = mul %12 %8 : f64[2,6]\n"
    "%14 = reshape %13 dims=[3,4] : f64[3,4]\n"
    "%15 = permute %14 axes=[1,0] : f64[4,3]\n"
    "%16 = slice %15 start=[0,1] size=[2,2] step=[2,1] : f64[2,2]\n"
    "%17 = pad %16 value=-0.25 lo=[1,0] hi=[0,4] gap=[0,0] : f64[3,6]\n"
    "%18 = flip %17 axes=[0] : f64[3,6]\n"
    "%19 = concat %18 %18 axis=1 : f64[3,12]\n"
    "%20 = sum %19 axis=0 : f64[12]\n"
    "%21 = broadcast %20 dims=[3,12] : f64[3,12]\n"
    "%22 = contract %21 %19 batch=0 sum=1 : f64[3,3]\n"
    "%23 = uniform %2 to=f32 dims=[2,3] : f32[2,3]\n"
    "%24 = gather %23 %1 axis=1 : f32[2,3]\n"
    "%25 = cast %24 to=f64 : f64[2,3]\n"
    "%26 = sum %25 axis=0 : f64[3]\n"
    "%27 = add %22 %26 : f64[3,3]\n"
    "%28 = maximum %6 %7 : f32[]\n"
    "%29 = cast %28 to=f64 : f64[]\n"
    "%30 = mul %27 %29 : f64[3,3]\n"
    "%31 = argmax %30 axis=0 : i64[3]\n"
    "%32 = gt %30 %22 : bool[3,3]\n"
    "%33 = where %32 %30 %27 : f64[3,3]\n"
    "%34 = window %33 axis=0 size=2 stride=1 dilation=1 : f64[2,3,2]\n"
    "%35 = iota to=i64 axis=0 dims=[3] : i64[3]\n"
    "%36 = eq %31 %35 : bool[3]\n"
    "%37 = reshape %36 dims=[3,1] : bool[3,1]\n"
    "%38 = where %37 %34 %34 : f64[2,3,2]\n"
    "return %38\n";

/* ---- round trips ----------------------------------------------------------------------------- */

START_TEST(a_text_of_every_kind_of_attribute_comes_back)
{
    niz *z;
    char *back = again(every_kind, &z);
    ck_assert_msg(back != NULL, "%s", niz_message(z));
    ck_assert_str_eq(back, every_kind);
    ck_assert_str_eq(niz_param_get(z, 0).name, "a \"b\\c\n.w");
    free(back);
    niz_close(z);
}
END_TEST

START_TEST(random_graphs_and_gradients_come_back)
{
    int cases = util_cases(150, 3000);
    for (int c = 0; c < cases; c++) {
        niz *z = util_open();
        random_graph g = {.thin = true};
        niz_t grad;
        ck_assert_msg(rg_make(&g, z, (uint64_t)c + 1, 25), "seed %d: %s", c, niz_message(z));
        niz_grad(rg_loss(&g), 1, &g.node[3], &grad);
        char *text = util_text(grad);
        strip_places(text);
        expect_round_trip(text);
        free(text);
        expect_ok(z);
        niz_close(z);
    }
}
END_TEST

START_TEST(a_graph_read_back_computes_the_same)
{
    niz *z = util_open(), *y = util_open();
    float v[6] = {1, -2, 3, .5f, 5, -6}, a[4], b[4];
    niz_t x = niz_from(z, NIZ_F32, NIZ_SHAPE(2, 3), v), in, out;
    niz_t w = niz_param(z, "net.w", NIZ_F32, NIZ_SHAPE(2, 3), niz_normal_init());
    niz_param_info p = niz_param_of(w);
    ck_assert_int_eq(niz_param_set_all(y, 1, &p), NIZ_OK);
    char *text = util_text(niz_softmax(niz_matmul(x, niz_transpose(w, 0, 1)), 1));
    {
        NIZ_SCOPE(y, "elsewhere"); /* names in a text are whole */
        in = niz_from(y, NIZ_F32, NIZ_SHAPE(2, 3), v);
        ck_assert_msg(!niz_parse(y, text, 1, &in, 1, &out), "%s", niz_message(y));
    }
    ck_assert_int_eq(niz_param_count(y), 1);
    niz_read(niz_softmax(niz_matmul(x, niz_transpose(w, 0, 1)), 1), a, sizeof a);
    niz_read(out, b, sizeof b);
    expect_ok(y);
    ck_assert_mem_eq(a, b, sizeof a);
    free(text);
    niz_close(y);
    niz_close(z);
}
END_TEST

START_TEST(an_assignment_read_back_assigns)
{
    niz *z = util_open();
    niz_t out;
    const char *text = "%0 = param of=\"w\" : f32[2]\n%1 = literal value=3 : f32[]\n"
                       "%2 = add %0 %1 : f32[2]\n%3 = assign %2 of=\"w\" : f32[2]\nreturn %3\n";
    {
        NIZ_STEP(z);
        ck_assert_int_eq(niz_parse(z, text, 0, NULL, 1, &out), NIZ_OK);
    }
    ck_assert_double_eq((double)((const float *)niz_param_get(z, 0).data)[1], 3);
    niz_close(z);
}
END_TEST

START_TEST(every_double_comes_back)
{
    util_rng r = {5};
    niz *z = util_open();
    for (int i = 0; i < util_cases(2000, 100000); i++) {
        NIZ_STEP(z);
        uint64_t bits = i < 20 ? (uint64_t)i : util_u64(&r);
        double v, w;
        memcpy(&v, &bits, sizeof v);
        if (isnan(v)) v = NAN;
        niz_t x = niz_full(z, NIZ_F64, NIZ_SCALAR, v), y;
        char *text = util_text(x);
        ck_assert_int_eq(niz_parse(z, text, 0, NULL, 1, &y), NIZ_OK);
        niz_read(y, &w, sizeof w);
        ck_assert_msg(!memcmp(&v, &w, sizeof v) || (isnan(v) && isnan(w)), "%a: %s", v, text);
        free(text);
    }
    niz_close(z);
}
END_TEST

/* A locale with a decimal comma: one of the system, or made here. */
static bool decimal_comma(char *directory)
{
    static const char *const name[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    for (int i = 0; i < NIZ_COUNT(name); i++)
        if (setlocale(LC_ALL, name[i]) && *localeconv()->decimal_point == ',') return true;
    char command[600];
    if (!mkdtemp(directory)) return false;
    snprintf(command, sizeof command,
             "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", directory);
    if (system(command) == -1) return false;
    setenv("LOCPATH", directory, 1);
    return setlocale(LC_ALL, "de_DE.UTF-8") && *localeconv()->decimal_point == ',';
}

START_TEST(text_does_not_depend_on_the_locale)
{
    niz *z;
    char directory[] = "/tmp/niz-locale-XXXXXX", command[100];
    if (decimal_comma(directory)) {
        char *back = again(every_kind, &z);
        ck_assert_msg(back != NULL, "%s", niz_message(z));
        ck_assert_str_eq(back, every_kind);
        free(back);
        niz_close(z);
    } else {
        fprintf(stderr, "no locale with a decimal comma here: not tested\n");
    }
    setlocale(LC_ALL, "C");
    snprintf(command, sizeof command, "rm -rf %s", directory);
    if (!strstr(directory, "XXXXXX")) ck_assert_int_eq(system(command), 0);
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

/* A context that has the parameters of the text, so that a change cannot ask for large ones. */
static niz *damaged;
static niz_t damaged_in[8];

/* Read whole or refused with a place. */
static void read_damaged(const char *text)
{
    NIZ_STEP(damaged);
    niz_t out;
    int n = leaves_of(damaged, every_kind, damaged_in);
    ck_assert_int_eq(n, 3);
    niz_status status = niz_parse(damaged, text, n, damaged_in, 1, &out);
    ck_assert_int_eq(status, niz_error(damaged));
    ck_assert_int_ne(status, NIZ_E_INTERNAL);
    ck_assert_int_eq(status == NIZ_OK, niz_is_valid(out));
    const char *m = niz_message(damaged);
    if (status)
        ck_assert_msg(strstr(m, "line ") || strstr(m, "text:") || strstr(m, "data leaves"), "%s",
            m);
    niz_clear_error(damaged);
}

START_TEST(every_truncation_is_refused)
{
    damaged = util_open();
    char text[sizeof every_kind];
    size_t whole = strlen(every_kind) - strlen("8\n"); /* to "return %3", which is a graph too */
    for (size_t n = 0; n < whole; n++) {
        memcpy(text, every_kind, n);
        text[n] = 0;
        niz_t out;
        NIZ_STEP(damaged);
        int in = leaves_of(damaged, every_kind, damaged_in);
        ck_assert_int_ne(niz_parse(damaged, text, in, damaged_in, 1, &out), NIZ_OK);
        const char *m = niz_message(damaged);
        ck_assert_msg(strstr(m, "line ") || strstr(m, "text:"), "%s", m);
        niz_clear_error(damaged);
    }
    niz_close(damaged);
}
END_TEST

START_TEST(every_changed_byte_is_survived)
{
    damaged = util_open();
    read_damaged(every_kind);
    static const char some[] = "\n \"%=[],:0-9x#\\\xff\x01z";
    bool all = util_cases(0, 1);
    char text[sizeof every_kind];
    memcpy(text, every_kind, sizeof text);
    for (size_t i = 0; i + 1 < sizeof every_kind; i++) {
        for (int c = 1; c < (all ? 256 : (int)sizeof some); c++) {
            text[i] = all ? (char)c : some[c - 1];
            read_damaged(text);
        }
        text[i] = every_kind[i];
    }
    niz_close(damaged);
}
END_TEST

START_TEST(mistakes_have_line_and_column)
{
    niz *z = util_open();
    struct {
        const char *text, *part;
    } all[] = {
        {"", "line 1, column 1"},
        {"return %0", "line 1, column 10: this node has not been defined"},
        {"%0 = literal value=1 : f32[]\n%1 = tonh %0 : f32[]\nreturn %1",
         "line 2, column 10: no operation"},
        {"%1 = literal value=1 : f32[]\nreturn %1", "line 1, column 3: nodes are numbered"},
        {"%0 = literal value=x : f32[]\nreturn %0", "line 1, column 20: a number"},
        {"%0 = literal value=1 : f33[]\nreturn %0", "line 1, column 27: not a dtype"},
        {"%0 = literal value=1 : f32[\nreturn %0", "line 1, column 28"},
        {"%0 = literal value=1 : f32[] x\nreturn %0", "line 1, column 30: the line should end"},
        {"%0 = literal val=1 : f32[]\nreturn %0", "line 1"},
        {"%0 = iota to=f32 axis=0 dims=[1,2,3,4,5,6,7,8,9] : f32[1]\nreturn %0", "8 axes"},
        {"%0 = literal value=1 : f32[3]\nreturn %0", "line 1"},
        {"%0 = literal value=1 : f32[]\n%1 = exp %0 %0 : f32[]\nreturn %1",
         "line 2, column 16: wrong number"},
        {"%0 = literal value=1 : f32[]\n%1 = exp %0 : f64[]\nreturn %1", "not the type"},
        {"%0 = iota to=f32 axis=0 dims=[99999999999999999999] : f32[3]\nreturn %0",
         "line 1, column 31"},
        {"%0 = iota to=f32 axis=0 dims=[-4] : f32[-4]\nreturn %0",
         "line 1, column 44: a size is negative"},
        {"%0 = data : f32[3]\nreturn %0", "more data leaves"},
        {"%0 = literal value=1.5 : i32[]\nreturn %0", "text:1"},
        {"%0 = literal value=1 : f32[]\nreturn %0 %0", "line 2, column 11: more outputs"},
    };
    for (int i = 0; i < NIZ_COUNT(all); i++) {
        niz_t out;
        ck_assert_msg(niz_parse(z, all[i].text, 0, NULL, 1, &out) != NIZ_OK, "accepted: %s",
            all[i].text);
        ck_assert_msg(strstr(niz_message(z), all[i].part), "no \"%s\" in \"%s\" of\n%s",
            all[i].part,
                      niz_message(z), all[i].text);
        niz_clear_error(z);
    }
    niz_close(z);
}
END_TEST

START_TEST(leaves_and_outputs_must_fit)
{
    niz *z = util_open();
    niz_t in[2] = {niz_full(z, NIZ_F32, NIZ_SHAPE(3), 1)}, out[2];
    in[1] = in[0];
    const char *text = "%0 = data : f32[3]\n%1 = exp %0 : f32[3]\nreturn %1 %0\n";
    ck_assert_int_eq(niz_parse(z, text, 1, in, 2, out), NIZ_OK);
    ck_assert_uint_eq(out[1].id, in[0].id);
    ck_assert_int_eq(niz_parse(z, text, 2, in, 2, out), NIZ_E_FORMAT);
    expect_error(z, NIZ_E_FORMAT, "1 data leaves; 2 tensors");
    in[0] = niz_full(z, NIZ_F32, NIZ_SHAPE(4), 1);
    ck_assert_int_ne(niz_parse(z, text, 1, in, 2, out), NIZ_OK);
    ck_assert(!niz_is_valid(out[0]));
    niz_clear_error(z);
    in[0] = niz_inert(z);
    ck_assert_int_ne(niz_parse(z, text, 1, in, 2, out), NIZ_OK);
    niz_clear_error(z);
    niz_close(z);
}
END_TEST

/* ---- pictures -------------------------------------------------------------------------------- */

/* Braces, brackets and quotes match, seen as Graphviz does. */
static bool balanced(const char *s)
{
    int brace = 0, bracket = 0;
    bool quoted = false;
    for (; *s; s++) {
        if (quoted && *s == '\\' && s[1])
            s++;
        else if (*s == '"')
            quoted = !quoted;
        else if (!quoted)
            brace += (*s == '{') - (*s == '}'), bracket += (*s == '[') - (*s == ']');
        if (brace < 0 || bracket < 0) return false;
    }
    return !quoted && !brace && !bracket;
}

START_TEST(pictures_are_balanced_and_escaped)
{
    niz *z = util_open();
    niz_t w = niz_param(z, "a\"];} \\", NIZ_F32, NIZ_SHAPE(2, 3), niz_constant_init(1)), g;
    niz_grad(niz_sum(niz_tanh(w)), 1, &w, &g);
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    ck_assert_int_eq(niz_dot(f, 1, &g), NIZ_OK);
    fclose(f);
    ck_assert_msg(balanced(text), "%s", text);
    ck_assert(!strncmp(text, "digraph", 7));
    ck_assert_int_gt(util_count(text, "->"), 5);
    ck_assert_ptr_nonnull(strstr(text, "a\\\"];} \\\\"));
    free(text);
    niz_close(z);
}
END_TEST

START_TEST(a_file_that_cannot_be_written_is_an_error)
{
    niz *z = util_open();
    niz_t x = niz_full(z, NIZ_F32, NIZ_SHAPE(3), 1);
    FILE *f = fopen("/dev/full", "w");
    if (f) {
        setvbuf(f, NULL, _IONBF, 0);
        ck_assert_int_eq(niz_print(f, 1, &x), NIZ_E_IO);
        expect_error(z, NIZ_E_IO, "cannot write");
        fclose(f);
    }
    niz_close(z);
}
END_TEST

START_TEST(a_few_bytes_of_text_take_no_gigabytes)
{
    niz *z = util_open();
    niz_t y;
    ck_assert_int_eq(niz_parse(z, "%0 = param of=\"w\" : f32[3000000000]\nreturn %0\n", 0, NULL, 1, &y),
                     NIZ_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(niz_message(z), "line 1"));
    ck_assert_int_lt(niz_statistics(z).bytes_peak, 1 << 20);
    niz_close(z);
}
END_TEST

int main(void)
{
    UTIL_MAIN("text", a_few_bytes_of_text_take_no_gigabytes, a_text_of_every_kind_of_attribute_comes_back,
              random_graphs_and_gradients_come_back, a_graph_read_back_computes_the_same,
              an_assignment_read_back_assigns, every_double_comes_back,
              text_does_not_depend_on_the_locale, every_truncation_is_refused,
              every_changed_byte_is_survived, mistakes_have_line_and_column,
              leaves_and_outputs_must_fit, pictures_are_balanced_and_escaped,
              a_file_that_cannot_be_written_is_an_error);
}
