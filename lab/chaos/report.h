// What a run leaves for people and for tools: report.html (one offline file), report.json (the
// fields that tools may rely on), junit.xml, summary.md, events.jsonl.
#pragma once

#include <array>
#include <expected>
#include <string>
#include <utility>

#include "chaos/lab.h"

namespace keelback::chaos {

std::string report_json(const RunResult& result);
std::string report_html(const RunResult& result);
std::string report_junit(const RunResult& result);
std::string report_markdown(const RunResult& result);
// A few lines for a terminal.
std::string report_text(const RunResult& result);
// "baseline", "during" and "after".
std::array<std::pair<const char*, const PhaseStats*>, 3> phases_of(const Judgement& judgement);
// The command that runs it again.
std::string repro(const RunResult& result);

[[nodiscard]] std::expected<void, std::string> write_report(const std::string& directory,
                                                            const RunResult& result);

}  // namespace keelback::chaos
