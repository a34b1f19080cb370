// How client commands reach the daemon, and the messages for when they cannot.
#pragma once

#include <expected>
#include <string>

#include "cli/client.h"
#include "cli/command.h"
#include "cli/output.h"

namespace keelback::cli {

// --url and --token, else KEELBACK_URL and KEELBACK_TOKEN, else 127.0.0.1:8080.
struct ServerOptions {
  std::string url;
  std::string token;
  void add_to(CLI::App& command);
};

// Makes the client, or says why not and returns the exit code.
std::expected<Client, int> connect(const Invocation& invocation, const ServerOptions& options);

// Sends a request and expects a JSON document (204: null). Any other answer is printed on stderr,
// and the exit code is returned.
std::expected<Json, int> ask(const Invocation& invocation, const ServerOptions& options,
                             const HttpRequest& request);

// Prints a reply that is neither a success nor a call's outcome; returns the exit code.
int refused(const Invocation& invocation, const Client& client, const HttpReply& reply);
int unreachable(const Invocation& invocation, const ClientError& error);

// "2 replaced workers still serve 5 sessions, for at most 30 s", from the object that says so in
// the answers to /v1/pool and /v1/reload; empty if there are none.
std::string leaving_text(const Json& leaving);

}  // namespace keelback::cli
