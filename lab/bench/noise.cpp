#include "bench/noise.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace keelback::bench {
namespace {

double normal_noise(Prng& prng) {  // Box and Muller 1958
  const double radius = std::sqrt(-2 * std::log(1 - prng.unit()));
  return radius * std::cos(2 * std::numbers::pi * prng.unit());
}

// Student's t with `degrees` degrees of freedom, scaled to unit interquartile range like a normal
// with deviation 1 would be left: heavy tails, same middle.
double student_noise(Prng& prng, double degrees) {  // Bailey 1994, polar method
  for (;;) {
    const double u = 2 * prng.unit() - 1;
    const double v = 2 * prng.unit() - 1;
    const double w = u * u + v * v;
    if (w > 0 && w <= 1) return u * std::sqrt(degrees * (std::pow(w, -2 / degrees) - 1) / w);
  }
}

}  // namespace

std::string_view to_string(Noise noise) {
  switch (noise) {
    case Noise::kNormal:
      return "normal";
    case Noise::kStudent:
      return "t2.5";
    case Noise::kAutoregressive:
      return "ar.98";
    case Noise::kRegimes:
      return "two regimes";
    case Noise::kBursts:
      return "bursts";
    case Noise::kPlaceBias:
      return "place bias";
    case Noise::kLaunch:
      return "launch t3";
  }
  CHECK(!"noise out of range");
  return {};
}

std::vector<double> simulate_scores(Noise noise, std::size_t blocks, double effect, double scale,
                                    Prng& prng) {
  std::vector<double> scores;
  scores.reserve(blocks);
  double drift = 0;
  bool slow = false;
  for (std::size_t i = 0; i < blocks; ++i) {
    const double sign = prng.chance(0.5) ? 1.0 : -1.0;  // who went first
    double error = 0;
    switch (noise) {
      case Noise::kNormal:
        error = scale * normal_noise(prng);
        break;
      case Noise::kStudent:
        error = 0.8 * scale * student_noise(prng, 2.5);
        break;
      case Noise::kAutoregressive:
        drift = 0.98 * drift + std::sqrt(1 - 0.98 * 0.98) * normal_noise(prng);
        error = scale * (sign * drift + 0.5 * normal_noise(prng));
        break;
      case Noise::kRegimes:
        if (prng.chance(0.1)) slow = !slow;
        error = scale * (slow ? 2.0 : 0.5) * normal_noise(prng);
        break;
      case Noise::kBursts:
        error = scale * (normal_noise(prng) + (prng.chance(0.03) ? sign * 20 : 0));
        break;
      case Noise::kPlaceBias:
        error = scale * (sign * 1.5 + 0.5 * normal_noise(prng));
        break;
      case Noise::kLaunch:
        error = 0.85 * scale * student_noise(prng, 3);
        break;
    }
    scores.push_back(effect + error);
  }
  return scores;
}

}  // namespace keelback::bench
