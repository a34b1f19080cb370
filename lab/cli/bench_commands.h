// The commands of `keelback bench`, and what they share.
#pragma once

#include <expected>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/run.h"
#include "cli/command.h"
#include "cli/pass_on.h"

namespace keelback::cli {

void add_bench(CLI::App& app, Invocation& invocation);
// `bench` without its commands.
CLI::App& add_bench_group(CLI::App& app);
// `bench peers`, in its own program.
void add_bench_peers(CLI::App& group, Invocation& invocation);
extern const PassedOn kBenchPeers;

void add_bench_out(CLI::App& command, std::string& out);
// One line on a terminal that is drawn over; silent elsewhere.
bench::Progress bench_progress();
void end_bench_progress();
// Files where they are wanted, the document or its text on stdout. `code`: the document's exit
// code; null: 0. An error instead of a document is one of usage.
int deliver(const Invocation& invocation, const std::string& out,
            const std::expected<nlohmann::json, std::string>& document,
            int (*code)(const nlohmann::json&) = nullptr);

}  // namespace keelback::cli
