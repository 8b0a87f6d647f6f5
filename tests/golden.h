/* SPDX-License-Identifier: MIT */
/*
 * golden.h - the first three training steps of five small models, float64, computed by
 * PyTorch 2.13.0 on one thread.  Written by tools/golden.py, which with that version regenerates
 * it byte for byte; do not edit.
 *
 * No initial value is stored.  Elements count in row-major order from i = 0; golden_value(), below,
 * gives
 *   parameter k of a model, its order in .params, from 1    golden_value(i, k, 0.5)
 *   except a batch norm's weight (bias: as any other)       1 + golden_value(i, k, 0.5)
 *   running mean and variance                               0 and 1
 *   input x                                                 golden_value(i, 101, 1.0)
 *   real targets                                            golden_value(i, 202, 1.0)
 *   class labels                                            (i * 5 + 3) % classes
 *   0/1 targets                                             (i * 3 + 1) % 2
 * Names and layouts are PyTorch's: linear [out,in], conv [out,in/groups,kh,kw]; gates stacked along
 * the first axis, i f g o (LSTM) and r z n (GRU, n = tanh(Wx + b_ih + r * (Uh + b_hh))).  Recurrent
 * states start at 0.  Losses are means: cross-entropy over the batch, the others over all elements.
 * Every step uses the same batch.
 *
 * fnn   x[6,20], linear 16 fc1, ReLU, linear 5 fc2; cross-entropy with class indices.
 *       SGD lr 0.1, momentum 0.9, dampening 0, L2 decay 1e-3 (g += 1e-3 * p, first).
 * cnn   x[4,2,8,8], conv 6 3x3 pad 1 conv1, batch norm bn1 (training, eps 1e-5, momentum 0.1),
 *       ReLU, max pool 2, conv 8 3x3 stride 2 pad 1 groups 2 conv2, GELU (erf), average pool 2,
 *       flatten, linear 5 fc; cross-entropy with class indices.
 *       Adam lr 0.01, betas 0.9 0.999, eps 1e-8, L2 decay 1e-3 (g += 1e-3 * p, first).
 * lstm  x[3,7,5] (B,T,C), LSTM 6 rnn, the last time step, linear 3 head; mean squared error,
 *       real targets [3,3].  AdamW lr 0.01, betas 0.9 0.999, eps 1e-8, decay 0.05 of every
 *       parameter (p *= 1 - 0.01 * 0.05, first).
 * gru   x[3,7,5] (B,T,C), GRU 6 rnn, the last time step, linear 3 head; mean squared error,
 *       real targets [3,3].  Before each step all gradients are multiplied by
 *       min(1, 0.1 / (norm + 1e-6)), norm being that of all of them together (and above 0.1 each
 *       time); then SGD lr 0.5, no momentum, no decay.
 * rnn   x[3,7,5] (B,T,C), tanh RNN 6 rnn, the last time step, linear 3 head; binary cross-entropy
 *       with logits, 0/1 targets [3,3].  SGD lr 0.1, momentum 0.9, Nesterov, dampening 0, no decay.
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stddef.h>
#include <stdint.h>

/** One parameter: what it is after three steps, and its gradient in the first. */
typedef struct {
    const char *name;
    int rank;
    int64_t shape[4];   /* the first `rank` of them; the rest are 0 */
    double sum;         /* of all elements */
    double sum_sq;      /* of their squares */
    double head[4];     /* the first elements; 0 past the end of a shorter parameter */
    double grad_sum_sq; /* first step, sum of squares of dloss/dp: without decay, before clipping;
                           0 where the derivative is 0 and only rounding is left (below 1e-28) */
} golden_param;

/** One model.  The batch norm's state is that after three steps; loss[3] is one more forward pass,
 *  also in training mode, which the state does not include. */
typedef struct {
    const char *name;
    double loss[4];            /* before step 1, 2, 3 and after step 3 */
    int n_params;
    const golden_param *params;
    int channels;              /* length of running_mean and running_var; 0: no batch norm */
    const double *running_mean;
    const double *running_var; /* moved by the unbiased variance, as in PyTorch */
    int64_t batches;           /* num_batches_tracked */
} golden_model;

/** Initial values.  Integers up to the one division, so every IEEE machine gets the same double. */
static inline double golden_value(int64_t i, int64_t salt, double scale)
{
    return (double)((i * 7919 + salt * 104729) % 2003 - 1001) / 1001.0 * scale;
}

/* clang-format off */
static const golden_param golden_fnn_params[] = {
    { "fc1.weight", 2, { 16, 20, 0, 0 },
      -0.59341074172204344, 24.610881953753022,
      { -0.24855823417141865, -0.29964327549366726, -0.35072831681591593, -0.35427287010892733 },
      3.4618544744171831 },
    { "fc1.bias", 1, { 16, 0, 0, 0 },
      -2.044424651621251, 2.2469369736040723,
      { 0.12251824115005708, 0.050067712726254619, -0.016322655755050135, -0.066895520695237756 },
      1.0159660315992167 },
    { "fc2.weight", 2, { 5, 16, 0, 0 },
      -0.042932946117839016, 5.7070989794852061,
      { 0.34569318959984802, 0.3051804759518561, 0.26455430611997743, 0.21915771332245804 },
      11.103608283784435 },
    { "fc2.bias", 1, { 5, 0, 0, 0 },
      -1.2415608952914652, 1.0446728311652174,
      { -0.38690178936980124, -0.51645913193892357, -0.69733054517816007, -0.017275422542797292 },
      1.2768608309090563 },
};

static const golden_param golden_cnn_params[] = {
    { "conv1.weight", 4, { 6, 2, 3, 3 },
      -0.57014186526200694, 8.9416229847063153,
      { -0.18645526493360406, -0.23238755538628231, -0.27794501242820063, -0.32338887208061584 },
      0.027438056384323395 },
    { "conv1.bias", 1, { 6, 0, 0, 0 },
      -0.20378615891049834, 0.027111055833820154,
      { 0.042691624825523702, -0.0021966648858308749, 0.0063986712184150802, -0.037232895147895614 },
      0 },
    { "bn1.weight", 1, { 6, 0, 0, 0 },
      7.4691754405443618, 9.3469060465037224,
      { 1.3562759353045959, 1.3395325926917609, 1.2830026151760998, 1.1962877311085012 },
      0.015752114214582426 },
    { "bn1.bias", 1, { 6, 0, 0, 0 },
      -0.84760893332776654, 1.1318419839690508,
      { -0.35912854383603177, -0.39984516825341793, -0.44016593135859056, -0.51709732409631692 },
      0.0101227189106324 },
    { "conv2.weight", 4, { 8, 3, 3, 3 },
      0.5204265360398499, 18.041026113998136,
      { -0.040348054832329214, -0.14516671841364556, -0.19174573617936605, -0.17931131281736457 },
      0.089013538169564227 },
    { "conv2.bias", 1, { 8, 0, 0, 0 },
      0.48733089413702035, 0.16083858958873323,
      { 0.24374437025126316, 0.19852460284997306, 0.15228434794251416, 0.10576095446355939 },
      0.0024302423168141652 },
    { "fc.weight", 2, { 5, 8, 0, 0 },
      0.61559722540913309, 3.0629091515207039,
      { -0.46832425114632648, 0.42649908461661618, 0.38005004923407315, 0.3335998197751901 },
      4.6632861292388341 },
    { "fc.bias", 1, { 5, 0, 0, 0 },
      -1.6092559560374624, 0.53677232669952468,
      { -0.24127783247545945, -0.28767428118294575, -0.33260853416220543, -0.32070507118725616 },
      0.88688852102462901 },
};

static const double golden_cnn_running_mean[] = {
    0.017934537799573359,
    0.021890510599451247,
    -0.024209172129522227,
    -0.010432284533849527,
    -0.0084555683542937663,
    -0.064683234376040177,
};

static const double golden_cnn_running_var[] = {
    0.83540598024335178,
    0.79625051849646089,
    0.84661323743133376,
    0.79158466227536783,
    0.81679689133813838,
    0.90834766458669747,
};

static const golden_param golden_lstm_params[] = {
    { "rnn.weight_ih_l0", 2, { 24, 5, 0, 0 },
      -0.91313195422132698, 10.51245413965351,
      { -0.23314565185629518, -0.28587088456804677, -0.33299846576578146, -0.38000932616367927 },
      0.00042473392207339464 },
    { "rnn.weight_hh_l0", 2, { 24, 6, 0, 0 },
      -1.3308892328735362, 12.30860207246306,
      { 0.053850117438923872, -0.0034277488595636499, -0.049103375386696124, -0.038865375303917919 },
      0.00028265540373646612 },
    { "rnn.bias_ih_l0", 1, { 24, 0, 0, 0 },
      0.67484277416960503, 1.9328339287564227,
      { 0.38806587872244969, 0.34056087150715292, 0.24097344854712535, 0.18972293801659554 },
      0.0014078097403133708 },
    { "rnn.bias_hh_l0", 1, { 24, 0, 0, 0 },
      -1.4573204154985393, 2.1512029990651591,
      { -0.32514894261683619, -0.37265394983213285, -0.4722413727921605, -0.52349188332269025 },
      0.0014078097403133713 },
    { "head.weight", 2, { 3, 6, 0, 0 },
      -0.47815784675276451, 1.6641755987888256,
      { -0.099259394587246919, -0.094567197462343155, -0.13301380594575307, -0.17890230928475803 },
      0.0098501553582888528 },
    { "head.bias", 1, { 3, 0, 0, 0 },
      0.54047937892905273, 0.098548907179446532,
      { 0.18759646226728913, 0.19982198536073612, 0.15306093130102752, 0 },
      0.025240927276320515 },
};

static const golden_param golden_gru_params[] = {
    { "rnn.weight_ih_l0", 2, { 18, 5, 0, 0 },
      -1.235868987990838, 7.5060085226758382,
      { -0.21367901518623997, -0.26013658665191597, -0.30655413953699345, -0.3533490025487474 },
      0.0073110572861127664 },
    { "rnn.weight_hh_l0", 2, { 18, 6, 0, 0 },
      0.50050336088735947, 8.9641182261105303,
      { 0.072418584336765207, 0.025998071897426953, -0.020424587861244518, -0.066850540378319487 },
      0.0051191685003372078 },
    { "rnn.bias_ih_l0", 1, { 18, 0, 0, 0 },
      -0.58649285312358357, 1.0102836676812874,
      { 0.35825394399579458, 0.31246822678199415, 0.265685548730628, 0.21919564790663762 },
      0.035664727632721945 },
    { "rnn.bias_hh_l0", 1, { 18, 0, 0, 0 },
      0.54421690471793105, 1.5560325536579627,
      { -0.35603177028991972, -0.40181748750372009, -0.44860016555508631, -0.49509006637907665 },
      0.015522951921614028 },
    { "head.weight", 2, { 3, 6, 0, 0 },
      -0.49138622090471595, 1.6865994537979039,
      { -0.074672423886951445, -0.11399016667413331, -0.1515703651134277, -0.20964660763696172 },
      0.050801807434390583 },
    { "head.bias", 1, { 3, 0, 0, 0 },
      0.58294446299212677, 0.11599401618176594,
      { 0.17247078599373356, 0.23688746571398547, 0.17358621128440777, 0 },
      0.074400976390230966 },
};

static const golden_param golden_rnn_params[] = {
    { "rnn.weight_ih_l0", 2, { 6, 5, 0, 0 },
      -1.9314184119393631, 3.0198963753889454,
      { -0.23739747161437599, -0.28679260456310396, -0.33620928724942961, -0.38257350597895068 },
      0.025744229444698098 },
    { "rnn.weight_hh_l0", 2, { 6, 6, 0, 0 },
      -1.6015401156424058, 3.054261534133186,
      { 0.066015094997705456, 0.012830379977519282, 0.0055635268343553028, -0.08054665776688362 },
      0.031906032158253259 },
    { "rnn.bias_ih_l0", 1, { 6, 0, 0, 0 },
      1.6286351710104983, 0.51106513735664061,
      { 0.39053490024363824, 0.36694106429908074, 0.33025140000925157, 0.28409419898915406 },
      0.022455918257397726 },
    { "rnn.bias_hh_l0", 1, { 6, 0, 0, 0 },
      -0.65608011370478625, 0.9029802258419406,
      { -0.32375081404207606, -0.34734464998663345, -0.38403431427646273, -0.43019151529656019 },
      0.02245591825739773 },
    { "head.weight", 2, { 3, 6, 0, 0 },
      -0.30856961329412419, 1.6078643491398128,
      { 0.0080340817503466097, -0.15567852371815738, -0.21361680400896307, -0.21543476279382962 },
      0.10940887826097921 },
    { "head.bias", 1, { 3, 0, 0, 0 },
      0.48897155543866555, 0.098437485638785502,
      { 0.26151147175448031, 0.068012479873069798, 0.15944760381111545, 0 },
      0.024088317305302691 },
};

static const golden_model golden_models[] = {
    { "fnn", { 4.1348358245686132, 2.6671610443125151, 1.15716566707736, 0.41152618308735106 },
      4, golden_fnn_params, 0, NULL, NULL, 0 },
    { "cnn", { 1.3821055913745344, 1.2612858072635365, 1.1378373311704681, 1.0069603124400468 },
      8, golden_cnn_params, 6, golden_cnn_running_mean, golden_cnn_running_var, 3 },
    { "lstm", { 0.07966757807212263, 0.06999622474466477, 0.06285012215123055, 0.057600385327221081 },
      6, golden_lstm_params, 0, NULL, NULL, 0 },
    { "gru", { 0.12731062327600051, 0.10766641481344366, 0.092009812038308922, 0.079990014711539076 },
      6, golden_gru_params, 0, NULL, NULL, 0 },
    { "rnn", { 0.82699822396050904, 0.78338469503935138, 0.727769875013352, 0.66754793734951456 },
      6, golden_rnn_params, 0, NULL, NULL, 0 },
};
/* clang-format on */

enum { GOLDEN_MODELS = sizeof golden_models / sizeof golden_models[0] };

#endif
