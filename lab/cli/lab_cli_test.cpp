#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/bench_commands.h"
#include "cli/chaos_commands.h"
#include "cli/documented.h"

namespace keelback::cli {
namespace {

// Goal: every command and every option that the laboratories have is on the page of the command.
TEST(LabCommandDocs, ThePageNamesEveryCommandAndOption) {
  CLI::App app("", "keelback");
  Invocation invocation;
  add_chaos(app, invocation);
  add_bench(app, invocation);
  expect_documented(app, KEELBACK_SOURCE_DIR "/docs/cli.md");
  CLI::App peers("", "keelback");
  add_bench_peers(add_bench_group(peers), invocation);
  expect_documented(peers, KEELBACK_SOURCE_DIR "/docs/cli.md");
}

}  // namespace
}  // namespace keelback::cli
