// What `keelback chaos` shows while and after it runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "chaos/lab.h"
#include "cli/output.h"

namespace keelback::cli {

// A line on a terminal that is drawn over, a few times a second; silent elsewhere. `title` stands
// before it: the scenario, and which of how many runs this is.
std::function<void(const chaos::Progress&)> chaos_progress(const std::string& title);
void end_chaos_progress();

Tone tone_of(chaos::Verdict verdict);
// The verdict's first word is coloured where a terminal shows it.
std::string run_text(const chaos::RunResult& result);

std::string scenarios_text(const std::vector<std::string>& names, const std::string& tag);
Json scenarios_json(const std::vector<std::string>& names, const std::string& tag);
std::string classes_text();
Json classes_json();

// Several runs: a table with one line each, and the JSON that holds them all.
struct RunRow {
  std::string scenario;
  std::uint64_t seed = 0;
  chaos::Verdict verdict = chaos::Verdict::kPass;
  std::string why;
  std::string report;  // JSON
  std::string repro;
};
std::string rows_text(const std::vector<RunRow>& rows);
Json rows_json(const std::vector<RunRow>& rows, chaos::Verdict worst);

// As a shell reads it back.
std::string shell_quoted(const std::string& word);

}  // namespace keelback::cli
