// A comparison as files: report.html (offline), report.json, junit.xml, and a summary for people.
#pragma once

#include <expected>
#include <string>

#include "bench/compare.h"
#include "bench/peers.h"

namespace keelback::bench {

std::string to_text(const Comparison& comparison, bool strict);
std::string to_html(const Comparison& comparison, const CompareOptions& options, bool strict);
std::string to_junit(const Comparison& comparison);
std::string to_html(const PeersResult& peers);

// Writes `text` to directory/name, making the directory. The error is a sentence.
std::expected<void, std::string> write_file(const std::string& directory, const std::string& name,
                                            const std::string& text);

}  // namespace keelback::bench
