// Whole files, as commands read them. What is wrong is a sentence.
#pragma once

#include <cstdio>
#include <expected>
#include <string>

namespace keelback::cli {

// At most 1 GiB.
std::expected<std::string, std::string> read_file(const std::string& path);
// The same of an open file that people know as `name`.
std::expected<std::string, std::string> read_all(std::FILE* file, const std::string& name);

}  // namespace keelback::cli
