// Winograd's convolution F(3x3, 3x3) of channels-last maps in pieces: `winograd.cpp` puts them together.
//
// A map is cut in tiles of 3x3 results. A tile sees 5x5 inputs, which are transformed to 25 points; at each point the
// convolution is a product of matrices over the channels: 25 multiplications for nine results in place of 81. The
// points of the polynomials are 0, 1/2, -1, 2 and infinity, whose rounding errors are the smallest of those tried.
//
// Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"; points of Alam et al. 2022,
// "Winograd Convolution for Deep Neural Networks: Efficient Point Selection".
#pragma once
#include <cstdint>

namespace winograd {
constexpr int POINTS = 25;
// Channels are processed in panels of so many.
constexpr int64_t PANEL = 16;

// [images, height, width, channels].
struct Maps {
  int64_t images, height, width, channels;
  int64_t tiles() const { return images * ((height + 2) / 3) * ((width + 2) / 3); }
};

// Whether the processor has the instructions, and not those of AVX-512, which libtorch's convolutions use: there it
// has not been measured which are faster.
bool available();

// Matrices at the 25 points, `stride` numbers apart.
struct Points {
  float *data;
  int64_t stride;
  float *at(int64_t point) const { return data + point * stride; }
};

// Tiles `first` to `last` of the maps, the first of them all being row 0 of the results [tile, channel].
void inputs(const float *x, const Maps &maps, int64_t base, int64_t first, int64_t last, Points out);
// The same of the results' gradients.
void gradients(const float *dy, const Maps &maps, int64_t base, int64_t first, int64_t last, Points out);
// Back from points [tile, channel] to maps, plus a bias [channel] if there is one.
void results(Points in, const Maps &maps, int64_t base, int64_t first, int64_t last, const float *bias, float *y);

// Panels `first` to `last` of weights [outputs, 3, 3, inputs] as [panel, input, 16 outputs]. `turned`: of the
// convolution that gives the gradient of the inputs, whose weights are [inputs, 3, 3, outputs] with the kernel turned.
void weights(const float *w, int64_t outputs, int64_t inputs, bool turned, int64_t first, int64_t last, Points out);
// out [tile, output] = x [tile, input] times weights, for panels `first` to `last` of all points.
void products(Points x, int64_t tiles, int64_t inputs, Points weights, int64_t outputs, int64_t first, int64_t last,
              Points out);

// out [output, input] (+)= the sum over tiles of dy [tile, output] and x [tile, input], for panels of all points.
void outer_products(Points dy, Points x, int64_t tiles, int64_t outputs, int64_t inputs, int64_t first, int64_t last,
                    Points out, bool add);
// Back from points [output, input] to outputs `first` to `last` of weights [outputs, 3, 3, inputs].
void weight_gradients(Points in, int64_t inputs, int64_t first, int64_t last, float *dw);
// Sums over the pixels of dy [pixel, channel] in double precision, for panels `first` to `last`.
void bias_gradients(const float *dy, int64_t pixels, int64_t channels, int64_t first, int64_t last, float *db);
}  // namespace winograd
