// Documents as people read them. Whatever the laboratory measures ends as one JSON document with a
// schema; everything else - text for a terminal, offline HTML, JUnit, Markdown for a pull request -
// is made from it, so an old document can be looked at again (`bench report DIR`).
#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>

namespace keelback::bench {

std::string to_text(const nlohmann::json& document);
std::string to_html(const nlohmann::json& document);
std::string to_junit(const nlohmann::json& document);
std::string to_markdown(const nlohmann::json& document);

// report.json, report.html, report.md and junit.xml in `directory`, which is made. The error is a
// sentence.
std::expected<void, std::string> write_report(const std::string& directory,
                                              const nlohmann::json& document);
// The document of such a directory; the error: none, or none of ours.
std::expected<nlohmann::json, std::string> read_report(const std::string& directory);

// Writes `text` to directory/name, making the directory. The error is a sentence.
std::expected<void, std::string> write_file(const std::string& directory, const std::string& name,
                                            const std::string& text);

}  // namespace keelback::bench
