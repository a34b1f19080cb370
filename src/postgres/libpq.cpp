#include "postgres/libpq.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace keelback::postgres {
namespace {

constexpr const char* kLibrary = "libpq.so.5";

std::string why() {
  const char* text = ::dlerror();
  return text == nullptr ? "unknown" : text;
}

std::expected<Libpq, std::string> load() {
  void* library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return std::unexpected(
        fmt::format("cluster.store needs PostgreSQL's client library (Debian: libpq5): {}", why()));
  }
  Libpq libpq;
#define KEELBACK_LIBPQ_LOAD(name)                                                                \
  libpq.name = reinterpret_cast<decltype(libpq.name)>(::dlsym(library, #name));                  \
  if (libpq.name == nullptr) {                                                                   \
    return std::unexpected(fmt::format(                                                          \
        "{} is too old for cluster.store: version 14 or later is needed: {}", kLibrary, why())); \
  }
  KEELBACK_LIBPQ_FUNCTIONS(KEELBACK_LIBPQ_LOAD)
#undef KEELBACK_LIBPQ_LOAD
  return libpq;
}

}  // namespace

std::expected<const Libpq*, std::string> load_libpq() {
  static const auto loaded = load();
  if (!loaded) return std::unexpected(loaded.error());
  return &*loaded;
}

}  // namespace keelback::postgres
