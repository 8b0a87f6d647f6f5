/* curve_svg.c - curves over epochs as an SVG picture.
 *
 * SPDX-License-Identifier: MIT */
#include "curve_svg.h"

#include <math.h>
#include <stdio.h>

/* The picture and the field inside it, in pixels. */
enum { WIDTH = 640, HEIGHT = 400, LEFT = 64, RIGHT = 620, TOP = 44, BOTTOM = 350 };

static const char *const colours[4] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd"};

typedef struct scale {
    int n;                      /* epochs */
    double top, tick;           /* the greatest value shown; between two lines */
    int epoch_tick;
} scale;

/* 1, 2 or 5 times a power of ten, so that at most `most` steps reach x. */
static double nice_step(double x, int most)
{
    double step = 1;
    while (step * most >= 10 * x) step /= 10;
    while (step * most < x) step *= 10;
    if (step / 5 * most >= x) return step / 5;
    return step / 2 * most >= x ? step / 2 : step;
}

static scale scale_make(int n_curves, const curve *c, int n)
{
    double top = 1e-6;
    for (int k = 0; k < n_curves; k++)
        for (int i = 0; i < n; i++)
            if (isfinite(c[k].value[i]) && c[k].value[i] > top) top = c[k].value[i];
    double tick = nice_step(top, 6), epochs = nice_step(n, 10);
    return (scale){n, tick * ceil(top / tick), tick, epochs < 1 ? 1 : (int)epochs};
}

static double x_of(const scale *s, int epoch)
{
    return s->n < 2 ? (LEFT + RIGHT) / 2.0 : LEFT + (RIGHT - LEFT) * (epoch - 1.0) / (s->n - 1.0);
}

static double y_of(const scale *s, double value)
{
    return BOTTOM - (BOTTOM - TOP) * value / s->top;
}

static void draw_axes(FILE *f, const scale *s, const char *title)
{
    fprintf(f, "<text x=\"%d\" y=\"24\" font-size=\"15\">%s</text>\n", LEFT, title);
    for (int i = 0; i * s->tick <= s->top * 1.0001; i++) {
        double y = y_of(s, i * s->tick);
        fprintf(f, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, y,
                RIGHT, y);
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT - 8, y + 4,
                i * s->tick);
    }
    for (int e = s->epoch_tick; e <= s->n; e += s->epoch_tick) {
        double x = x_of(s, e);
        fprintf(f, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#555\"/>\n", x,
                BOTTOM, x, BOTTOM + 5);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", x, BOTTOM + 20,
                e);
    }
    fprintf(f, "<path d=\"M%d %dV%dH%d\" fill=\"none\" stroke=\"#555\"/>\n", LEFT, TOP, BOTTOM,
            RIGHT);
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">epoch</text>\n", (LEFT + RIGHT) / 2,
            HEIGHT - 10);
}

/* A value that is not finite leaves a gap; an epoch on its own is a dot. */
static void draw_curve(FILE *f, const scale *s, const curve *c, const char *colour)
{
    bool pen_down = false;
    fputs("<path d=\"", f);
    for (int i = 0; i < s->n; i++) {
        bool drawn = isfinite(c->value[i]);
        if (drawn)
            fprintf(f, "%c%.1f %.1f", pen_down ? 'L' : 'M', x_of(s, i + 1), y_of(s, c->value[i]));
        if (drawn && !pen_down) fputs("h0", f);
        pen_down = drawn;
    }
    fprintf(f, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linecap=\"round\"/>\n",
            colour);
}

static void draw_legend(FILE *f, int n_curves, const curve *c)
{
    for (int k = 0; k < n_curves; k++) {
        int y = TOP + 16 + 20 * k;
        fprintf(f, "<path d=\"M%d %dh28\" stroke=\"%s\" stroke-width=\"2\"/>\n", RIGHT - 150, y,
                colours[k]);
        fprintf(f, "<text x=\"%d\" y=\"%d\">%s</text>\n", RIGHT - 114, y + 4, c[k].name);
    }
}

bool curve_svg_write(const char *path, const char *title, int n_curves, const curve *c, int n)
{
    FILE *f = fopen(path, "w");
    if (!f) return false;
    scale s = scale_make(n_curves, c, n);
    fprintf(f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_axes(f, &s, title);
    for (int k = 0; k < n_curves; k++) draw_curve(f, &s, &c[k], colours[k]);
    draw_legend(f, n_curves, c);
    fputs("</svg>\n", f);
    bool written = !ferror(f);
    return fclose(f) == 0 && written;
}
