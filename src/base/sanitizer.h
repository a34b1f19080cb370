// The sanitizer that this program is compiled with.
#pragma once

#include <string_view>

namespace keelback {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr std::string_view kSanitizer = "address";
#elif defined(__SANITIZE_THREAD__)
inline constexpr std::string_view kSanitizer = "thread";
#elif defined(__has_feature)  // clang
#if __has_feature(address_sanitizer)
inline constexpr std::string_view kSanitizer = "address";
#elif __has_feature(thread_sanitizer)
inline constexpr std::string_view kSanitizer = "thread";
#else
inline constexpr std::string_view kSanitizer;
#endif
#else
inline constexpr std::string_view kSanitizer;
#endif

}  // namespace keelback
