// The element types that an array may have on its way (docs/protocol.md, Element types), in NumPy's
// words: "float32", "<f4", ">i8", "<M8[ns]", "|S5", "<U3". python/keelback/dtypes.py accepts the
// same ones.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace keelback {

// Bytes of one element; nullopt: no array has such elements here (objects, structures, a word that
// NumPy does not know).
std::optional<std::uint64_t> dtype_bytes(std::string_view dtype);

// Whether `bytes` are an array of such elements and extents, or, without a dtype, plain bytes.
bool is_whole_array(std::string_view dtype, std::span<const std::uint64_t> shape,
                    std::uint64_t bytes);

// Why they are not, as a sentence about the attachment `name`; empty: they are.
std::string array_fault(std::string_view name, std::string_view dtype,
                        std::span<const std::uint64_t> shape, std::uint64_t bytes);

}  // namespace keelback
