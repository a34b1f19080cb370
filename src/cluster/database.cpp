#include "cluster/database.h"

#include <array>

namespace keelback::cluster {

std::string_view name_of(const Request& request) {
  static constexpr std::array<std::string_view, 16> kNames = {
      "join",     "beat",       "retire",   "leave",         "find",  "claim",
      "commit",   "release",    "drop",     "owned",         "sweep", "key_open",
      "key_find", "key_answer", "key_drop", "write_settings"};
  static_assert(kNames.size() == std::variant_size_v<Request>);
  return kNames[request.index()];
}

std::string_view to_string(Fate fate) {
  static constexpr std::array<std::string_view, 3> kNames = {"alive", "expired", "lost"};
  return kNames[static_cast<std::size_t>(fate)];
}

}  // namespace keelback::cluster
