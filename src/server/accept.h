// What an Accept header says of media types. Pure.
#pragma once

#include <string_view>

namespace keelback::server {

// "image/png; x=y" as "image/png".
std::string_view media_type(std::string_view text);

// Whether it is the type of something, with parameters or without: "image/png; x=y".
bool is_media_type(std::string_view text);

// How well an Accept header takes a type. A range with q=0 takes nothing. If several ranges match
// the type, the most specific one counts.
enum class Taken { kNo, kAsAnything, kAsItsKind, kByName };
// kAsAnything: "*/*", or no header at all. kAsItsKind: "image/*". kByName: "image/png".
Taken taken(std::string_view accept, std::string_view type);

// Whether the Accept header names the type itself.
inline bool accepts(std::string_view accept, std::string_view type) {
  return taken(accept, type) == Taken::kByName;
}

}  // namespace keelback::server
