// keelback call: one call to a running server.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <memory>
#include <optional>

#include "base/json_text.h"
#include "base/settings_text.h"
#include "cli/arguments.h"
#include "cli/server_access.h"

namespace keelback::cli {
namespace {

// How long the server may take after the call's deadline: for calls.grace and for the network.
constexpr auto kSlack = std::chrono::minutes(15);

struct Options : ServerOptions {
  CallOptions call;
  std::string affinity;
  std::string open;
  std::string expect_epoch;
  std::string priority;
  std::string batch_key;
  bool idempotent = false;
  std::string key;
  std::string traceparent;
};

void add_options(CLI::App& command, Options& options) {
  options.call.add_to(command);
  options.add_to(command);
  command.add_option("--affinity", options.affinity,
                     "Of a new session: strict_queue, strict_fail_fast or hint");
  command.add_option("--open", options.open, "The session: any (default), new or existing");
  command.add_option("--expect-epoch", options.expect_epoch,
                     "Only if the session is still this one: BIRTH.EPOCH or EPOCH");
  command.add_option("--priority", options.priority, "high, normal (default) or low");
  command.add_option("--batch-key", options.batch_key,
                     "Of a function that takes batches: only calls with the same go together");
  command.add_flag("--idempotent", options.idempotent, "The call may run twice");
  command.add_option("--idempotency-key", options.key,
                     "The same key and arguments get the same answer; other arguments are refused");
  command.add_option("--traceparent", options.traceparent, "W3C trace context for the worker");
}

HttpRequest request_of(const Options& options, const CallArguments& arguments) {
  HttpRequest request{.method = "POST",
                      .target = "/v1/call/" + percent_encode(options.call.function),
                      .headers = {},
                      .body = {},
                      .timeout = std::nullopt};
  put_form(request, arguments.payload, arguments.attachments);
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) request.headers.emplace_back(name, value);
  };
  add("Keelback-Session", options.call.session);
  add("Keelback-Affinity", options.affinity);
  add("Keelback-Session-Open", options.open);
  add("Keelback-Expect-Epoch", options.expect_epoch);
  add("Keelback-Priority", options.priority);
  add("Keelback-Batch-Key", options.batch_key);
  add("Keelback-Idempotent", options.idempotent ? "true" : "");
  add("Idempotency-Key", options.key);
  add("traceparent", options.traceparent);
  if (arguments.deadline) {
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(*arguments.deadline);
    add("Keelback-Deadline-Ms", std::to_string(ms.count()));
    request.timeout = *arguments.deadline + kSlack;
  }
  return request;
}

// The reply's headers, as members of the --json document.
Json document_of(const HttpReply& reply) {
  Json json = {{"outcome", "ok"}, {"effect", "done"}};
  for (const auto& [member, header] : {std::pair{"worker", "keelback-worker"},
                                       {"call", "keelback-call"},
                                       {"birth", "keelback-birth"},
                                       {"effect", "keelback-effect"},
                                       {"server_timing", "server-timing"}}) {
    if (const std::string* value = reply.header(header)) json[member] = *value;
  }
  for (const auto& [member, header] :
       {std::pair{"epoch", "keelback-epoch"}, {"attempts", "keelback-attempts"}}) {
    const std::string* value = reply.header(header);
    const auto number = value != nullptr ? parse_count(*value) : parse_count("");
    if (number) json[member] = *number;
  }
  return json;
}

int report_problem(const Invocation& invocation, const Client& client, const Options& options,
                   const HttpReply& reply) {
  const Json problem = parse_json<Json>(reply.body);
  if (text_in(problem, "outcome").empty()) return refused(invocation, client, reply);
  return report_outcome(invocation, options.call.function, problem);
}

// ---- streams

struct StreamReader {
  const Invocation& invocation;
  const Options& options;
  std::optional<int> exit;  // set by the last event

  bool on_event(std::string_view name, std::string_view data) {
    if (name == "item") {
      print_item(invocation, std::string(data));
    } else if (name == "end") {
      if (invocation.json) print(fmt::format("{{\"end\":{}}}\n", data));
      exit = kExitOk;
    } else if (name == "error") {
      exit = report_outcome(invocation, options.call.function, parse_json<Json>(data));
    }
    return !exit.has_value();
  }
};

int call_stream(const Invocation& invocation, Client& client, const Options& options,
                HttpRequest request) {
  request.headers.emplace_back("Accept", "text/event-stream");
  StreamReader reader{invocation, options, std::nullopt};
  const auto reply = client.stream(request, [&](std::string_view name, std::string_view data) {
    return reader.on_event(name, data);
  });
  if (reader.exit) return *reader.exit;
  if (!reply) return unreachable(invocation, reply.error());
  if (reply->status != 200) return report_problem(invocation, client, options, *reply);
  return unreachable(invocation, {true, "the stream ended without its last event"});
}

int call(const Invocation& invocation, const Options& options) {
  const auto arguments = options.call.read();
  if (!arguments) return fail(invocation, kExitUsage, "usage", arguments.error());
  auto client = connect(invocation, options);
  if (!client) return client.error();
  HttpRequest request = request_of(options, *arguments);
  // A form carries a whole result, whatever types its parts have.
  if (!options.call.stream) {
    request.headers.emplace_back("Accept", "application/json, multipart/form-data");
  }
  if (options.call.stream) return call_stream(invocation, *client, options, request);

  auto reply = client->request(request);
  if (!reply) {
    ClientError error = reply.error();
    if (error.sent) error.why += "; the call may have run";
    return unreachable(invocation, error);
  }
  if (reply->status != 200) return report_problem(invocation, *client, options, *reply);
  if (!reply->header("keelback-outcome")) return refused(invocation, *client, *reply);
  Json document = document_of(*reply);
  const auto result = read_reply(*std::move(reply));
  if (!result) return unreachable(invocation, {true, result.error()});
  return report_ok(invocation, options.call, result->result, result->attachments,
                   std::move(document));
}

}  // namespace

void add_call(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      add_command(app, invocation, "call", "Call a function of a running server",
                  "keelback call greet '{\"name\": \"Ada\"}' --session ada --deadline 5s");
  auto options = std::make_shared<Options>();
  add_options(*command, *options);
  command->callback([&invocation, options] {
    invocation.run = [&invocation, options] { return call(invocation, *options); };
  });
}

}  // namespace keelback::cli
