// keelback drain, reload, recycle: orders to a running server.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>

#include "cli/server_access.h"

namespace keelback::cli {
namespace {

struct ControlOptions : ServerOptions {
  std::uint32_t slot = 0;
};

int order(const Invocation& invocation, const ControlOptions& options, const HttpRequest& request,
          const std::string& done) {
  const auto answer = ask(invocation, options, request);
  if (!answer) return answer.error();
  if (invocation.json) {
    print_json(*answer);
  } else {
    print(done + "\n");
  }
  return kExitOk;
}

}  // namespace

void add_control(CLI::App& app, Invocation& invocation) {
  auto options = std::make_shared<ControlOptions>();

  CLI::App* drain = add_command(app, invocation, "drain",
                                "Refuse new calls, finish the accepted ones, then stop the server",
                                "keelback drain");
  options->add_to(*drain);
  drain->callback([&invocation, options] {
    invocation.run = [&invocation, options] {
      return order(invocation, *options, {.method = "POST", .target = "/v1/drain"},
                   "draining: it stops when the accepted calls have ended");
    };
  });

  CLI::App* reload =
      add_command(app, invocation, "reload",
                  "Load the application anew and replace every worker, without losing a call",
                  "keelback reload");
  options->add_to(*reload);
  reload->callback([&invocation, options] {
    invocation.run = [&invocation, options]() -> int {
      // As long as the application's import takes: the server's own limit ends it.
      const auto answer = ask(invocation, *options,
                              {.method = "POST", .target = "/v1/reload", .timeout = std::nullopt});
      if (!answer) return answer.error();
      if (invocation.json) {
        print_json(*answer);
      } else {
        const std::string leaving = leaving_text(object_in(*answer, "draining"));
        print(fmt::format("reloaded: new calls meet the new code{}{}\n",
                          leaving.empty() ? "" : "; ", leaving));
      }
      return kExitOk;
    };
  });

  CLI::App* recycle =
      add_command(app, invocation, "recycle", "Replace the worker in a slot, replacement first",
                  "keelback recycle 1");
  options->add_to(*recycle);
  recycle->add_option("SLOT", options->slot, "As `keelback workers` shows it")->required();
  recycle->callback([&invocation, options] {
    invocation.run = [&invocation, options] {
      return order(
          invocation, *options,
          {.method = "POST", .target = fmt::format("/v1/workers/{}/recycle", options->slot)},
          fmt::format("recycling slot {}", options->slot));
    };
  });
}

}  // namespace keelback::cli
