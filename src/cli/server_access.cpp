#include "cli/server_access.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <cstdlib>

#include "base/json_text.h"

namespace keelback::cli {
namespace {

constexpr const char* kDefaultUrl = "127.0.0.1:8080";

std::string or_environment(const std::string& given, const char* name, const char* otherwise) {
  if (!given.empty()) return given;
  const char* const value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

}  // namespace

void ServerOptions::add_to(CLI::App& command) {
  command.add_option("-u,--url", url,
                     "The server: HOST:PORT, http://HOST:PORT or unix:/PATH "
                     "(default: KEELBACK_URL, else 127.0.0.1:8080)");
  command.add_option("--token", token, "The bearer token (default: KEELBACK_TOKEN)");
}

std::expected<Client, int> connect(const Invocation& invocation, const ServerOptions& options) {
  const std::string url = or_environment(options.url, "KEELBACK_URL", kDefaultUrl);
  auto address = parse_address(url);
  if (!address) {
    return std::unexpected(
        fail(invocation, kExitUsage, "usage", "the server's address " + address.error()));
  }
  return Client(std::move(*address), or_environment(options.token, "KEELBACK_TOKEN", ""));
}

int unreachable(const Invocation& invocation, const ClientError& error) {
  std::string why = error.why;
  if (!error.sent) why += " (--url or KEELBACK_URL says where it is; `keelback serve` starts one)";
  return fail(invocation, kExitUnreachable, "unreachable", why);
}

int refused(const Invocation& invocation, const Client& client, const HttpReply& reply) {
  const Json problem = parse_json<Json>(reply.body);
  std::string why = text_in(problem, "detail");
  if (why.empty()) why = text_in(problem, "title");
  if (!reply.is("application/problem+json") || why.empty()) {
    return fail(invocation, kExitUnreachable, "unreachable",
                fmt::format("what answers at {} is not a Keelback server (HTTP status {})",
                            client.address().text(), reply.status));
  }
  if (reply.status == 401) why += " (--token or KEELBACK_TOKEN)";
  const std::string type = text_in(problem, "type");
  const bool config = type == "urn:keelback:http:bad_config";
  return fail(invocation, config ? kExitUsage : kExitOutcome, config ? "config" : "refused", why);
}

std::expected<Json, int> ask(const Invocation& invocation, const ServerOptions& options,
                             const HttpRequest& request) {
  auto client = connect(invocation, options);
  if (!client) return std::unexpected(client.error());
  const auto reply = client->request(request);
  if (!reply) return std::unexpected(unreachable(invocation, reply.error()));
  if (reply->status == 204) return Json();
  if (reply->status < 200 || reply->status >= 300) {
    return std::unexpected(refused(invocation, *client, *reply));
  }
  Json json = parse_json<Json>(reply->body);
  if (json.is_discarded() || !reply->is("application/json")) {
    return std::unexpected(
        fail(invocation, kExitUnreachable, "unreachable",
             fmt::format("what answers at {} is not a Keelback server", client->address().text())));
  }
  return json;
}

std::string leaving_text(const Json& leaving) {
  const auto workers = count_in(leaving, "workers");
  const auto sessions = count_in(leaving, "sessions");
  if (workers == 0) return {};
  return fmt::format("{} replaced worker{} {} session{}, for at most {}", workers,
                     workers == 1 ? " still serves" : "s still serve", sessions,
                     sessions == 1 ? "" : "s", human_seconds(number_in(leaving, "until_s")));
}

}  // namespace keelback::cli
