// Models of what noisy machines do to a block's score, for proving the gate's error rates. The
// scores are differences of two windows, so every model is symmetric about the effect except for
// the bias of the place, which the fair coin turns into symmetric noise as it does in a real run.
#pragma once

#include <string_view>
#include <vector>

#include "base/prng.h"

namespace keelback::bench {

enum class Noise { kNormal, kStudent, kAutoregressive, kRegimes, kBursts, kPlaceBias, kLaunch };
inline constexpr Noise kNoises[] = {Noise::kNormal,  Noise::kStudent, Noise::kAutoregressive,
                                    Noise::kRegimes, Noise::kBursts,  Noise::kPlaceBias,
                                    Noise::kLaunch};
std::string_view to_string(Noise noise);

// `blocks` scores of a true log effect `effect`; `scale` is the models' common spread.
std::vector<double> simulate_scores(Noise noise, std::size_t blocks, double effect, double scale,
                                    Prng& prng);

}  // namespace keelback::bench
