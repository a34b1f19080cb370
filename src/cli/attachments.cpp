#include "cli/attachments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <utility>

#include "cli/read_file.h"
#include "server/call_body.h"
#include "server/multipart.h"

namespace keelback::cli {
namespace {

constexpr std::string_view kOctetStream = "application/octet-stream";

// Makes a file name of it that stays in the directory, is not hidden and is not too long.
std::string file_name(std::string_view name) {
  std::string out(name.substr(0, 200));
  for (char& c : out) {
    if (c == '/' || static_cast<unsigned char>(c) < 32) c = '_';
  }
  if (out.empty() || out[0] == '.') out.insert(0, "_");
  return out;
}

// The name, with a number after its stem if another attachment has it: no file is overwritten.
std::string free_name(const std::string& name, std::set<std::string>& taken) {
  const std::filesystem::path path(name);
  std::string free = name;
  for (int i = 2; !taken.insert(free).second; ++i) {
    free = fmt::format("{}-{}{}", path.stem().string(), i, path.extension().string());
  }
  return free;
}

}  // namespace

void AttachmentOptions::add_to(CLI::App& command) {
  command
      .add_option("--attach", attach,
                  "A file that goes with the call, as NAME=@FILE; may be repeated")
      ->allow_extra_args(false);
  command.add_option("--out", out, "The directory for attachments of the result");
}

std::expected<Attachments, std::string> AttachmentOptions::read() const {
  Attachments all;
  for (const std::string& text : attach) {
    const std::size_t at = text.find("=@");
    if (at == std::string::npos || at == 0 || at + 2 == text.size()) {
      return std::unexpected(fmt::format("--attach is NAME=@FILE, not '{}'", text));
    }
    auto bytes = read_file(text.substr(at + 2));
    if (!bytes) return std::unexpected("--attach " + bytes.error());
    Attachment& one = all.emplace_back();
    one.name = text.substr(0, at);
    one.data = Buffer(std::move(*bytes));
    one.filename = std::filesystem::path(text.substr(at + 2)).filename().string();
  }
  return all;
}

std::expected<Json, std::string> AttachmentOptions::write(const Attachments& attachments) const {
  Json list = Json::array();
  std::error_code error;
  if (!out.empty() && !attachments.empty()) std::filesystem::create_directories(out, error);
  if (error) return std::unexpected(fmt::format("--out {}: {}", out, error.message()));
  std::set<std::string> taken;  // names of files that are written
  for (const Attachment& each : attachments) {
    Json entry = {{"name", each.name}, {"bytes", each.data.size()}};
    if (!each.content_type.empty()) entry["content_type"] = each.content_type;
    if (!each.filename.empty()) entry["filename"] = each.filename;
    if (!each.dtype.empty()) {
      entry["dtype"] = each.dtype;
      entry["shape"] = each.shape;
    }
    if (!out.empty()) {
      const std::string name =
          free_name(file_name(each.filename.empty() ? each.name : each.filename), taken);
      const std::string path = (std::filesystem::path(out) / name).string();
      std::ofstream file(path, std::ios::binary | std::ios::trunc);
      file.write(each.data.data(), static_cast<std::streamsize>(each.data.size()));
      if (!file.flush()) return std::unexpected(fmt::format("{} cannot be written", path));
      entry["file"] = path;
    }
    list.push_back(std::move(entry));
  }
  if (out.empty() && !attachments.empty()) {
    std::fputs("keelback: the result has attachments; --out DIR writes them\n", stderr);
  }
  return list;
}

void put_form(HttpRequest& request, const std::string& payload, const Attachments& attachments) {
  if (attachments.empty()) {
    request.headers.emplace_back("Content-Type", "application/json");
    request.body = payload;
    return;
  }
  const std::string boundary = server::fresh_boundary();
  request.headers.emplace_back("Content-Type", "multipart/form-data; boundary=" + boundary);
  request.headers.emplace_back("Keelback-Attachment", "form");
  server::append_part_head(request.body, boundary,
                           {.name = "arguments", .content_type = "application/json"});
  request.body += payload;
  for (const Attachment& each : attachments) {
    server::append_part_head(
        request.body, boundary,
        {.name = each.name,
         .filename = each.filename,
         .content_type = each.content_type.empty() ? kOctetStream : each.content_type});
    request.body += each.data.view();
  }
  server::append_multipart_end(request.body, boundary);
}

std::expected<CallReply, std::string> read_reply(HttpReply reply) {
  if (!reply.is("multipart/form-data")) return CallReply{std::move(reply.body), {}};
  const std::string boundary = server::boundary_of(*reply.header("content-type"));
  // Shared by the attachments that lie in it.
  const auto body = std::make_shared<const std::string>(std::move(reply.body));
  const auto parts = server::parse_multipart(*body, boundary, server::kFormPartsMax);
  if (!parts) return std::unexpected("the answer cannot be read: " + parts.error());
  if (parts->empty() || parts->front().name != "result") {
    return std::unexpected("the answer has no result");
  }
  CallReply out{std::string(parts->front().data), {}};
  for (std::size_t i = 1; i < parts->size(); ++i) {
    const server::Part& part = (*parts)[i];
    Attachment attachment{
        part.name, Buffer(std::as_bytes(std::span(part.data)), body), std::string(part.dtype), {}};
    // The server writes this type if the function has named none.
    if (part.content_type != kOctetStream) attachment.content_type = part.content_type;
    if (part.filename && *part.filename != part.name) attachment.filename = *part.filename;
    if (!server::read_shape(part.shape.value_or(""), attachment.shape)) {
      return std::unexpected("the answer has a shape that is none");
    }
    out.attachments.push_back(std::move(attachment));
  }
  return out;
}

}  // namespace keelback::cli
