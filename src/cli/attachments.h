// Attachments on the command line: files in, files out.
#pragma once

#include <CLI/App.hpp>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/client.h"
#include "cli/output.h"
#include "keelback/attachment.h"

namespace keelback::cli {

struct AttachmentOptions {
  std::vector<std::string> attach;  // NAME=@FILE
  std::string out;                  // a directory; empty: attachments are not written

  void add_to(CLI::App& command);
  // Reads the files; the error is a sentence.
  std::expected<Attachments, std::string> read() const;
  // Writes what came back; what is to be said of it in a --json document.
  std::expected<Json, std::string> write(const Attachments& attachments) const;
};

// A call with attachments as the body of a request, and the headers that go with it.
void put_form(HttpRequest& request, const std::string& payload, const Attachments& attachments);
// The answer to a call: the result's JSON and what came with it. The error is a sentence.
struct CallReply {
  std::string result;
  Attachments attachments;
};
std::expected<CallReply, std::string> read_reply(HttpReply reply);

}  // namespace keelback::cli
