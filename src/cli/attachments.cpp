#include "cli/attachments.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include "cli/read_file.h"
#include "httptext/multipart.h"
#include "server/call_body.h"

namespace keelback::cli {
namespace {

constexpr std::string_view kOctetStream = "application/octet-stream";

// Makes a file name of it that stays in the directory, is not hidden and is not too long.
std::string file_name(std::string_view name) {
  constexpr std::size_t kBytesMax = 200;
  std::size_t size = std::min(name.size(), kBytesMax);
  const auto continues = [&] { return size < name.size() && (name[size] & 0xC0) == 0x80; };
  for (int i = 0; i < 3 && continues(); ++i) --size;  // not within a character
  std::string out(name.substr(0, size));
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

// Nothing, or why it cannot be written. A new file takes the place of what has the name: a link is
// replaced and not followed, and who reads the old file meanwhile has all of it.
std::string put_whole_file(const std::string& path, std::string_view bytes) {
  const std::string fresh = fmt::format("{}.{}~", path, ::getpid());
  const auto failed = [&](const char* what) {
    const int error = errno;
    ::unlink(fresh.c_str());
    return fmt::format("{} cannot be {}: {}", path, what, std::strerror(error));
  };
  ::unlink(fresh.c_str());
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return failed("written");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(::fdopen(fd, "wb"), std::fclose);
  if (!file) {
    ::close(fd);
    return failed("written");
  }
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() ||
      std::fflush(file.get()) != 0) {
    return failed("written");
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failed("replaced");
  return {};
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
      if (std::string wrong = put_whole_file(path, each.data.view()); !wrong.empty()) {
        return std::unexpected(std::move(wrong));
      }
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
  httptext::append_part_head(request.body, boundary,
                             {.name = "arguments", .content_type = "application/json"});
  request.body += payload;
  for (const Attachment& each : attachments) {
    httptext::append_part_head(
        request.body, boundary,
        {.name = each.name,
         .filename = each.filename,
         .content_type = each.content_type.empty() ? kOctetStream : each.content_type});
    request.body += each.data.view();
  }
  httptext::append_multipart_end(request.body, boundary);
}

std::expected<CallReply, std::string> read_reply(HttpReply reply) {
  if (!reply.is("multipart/form-data")) return CallReply{std::move(reply.body), {}};
  const std::string boundary = httptext::boundary_of(*reply.header("content-type"));
  // Shared by the attachments that lie in it.
  const auto body = std::make_shared<const std::string>(std::move(reply.body));
  const auto parts = httptext::parse_multipart(*body, boundary, httptext::kFormPartsMax);
  if (!parts) return std::unexpected("the answer cannot be read: " + parts.error());
  if (parts->empty() || parts->front().name != "result") {
    return std::unexpected("the answer has no result");
  }
  CallReply out{std::string(parts->front().data), {}};
  for (std::size_t i = 1; i < parts->size(); ++i) {
    const httptext::Part& part = (*parts)[i];
    Attachment attachment{
        part.name, Buffer(std::as_bytes(std::span(part.data)), body), std::string(part.dtype), {}};
    // The server writes this type if the function has named none.
    if (part.content_type != kOctetStream) attachment.content_type = part.content_type;
    if (part.filename && *part.filename != part.name) attachment.filename = *part.filename;
    if (!httptext::read_shape(part.shape.value_or(""), attachment.shape)) {
      return std::unexpected("the answer has a shape that is none");
    }
    out.attachments.push_back(std::move(attachment));
  }
  return out;
}

}  // namespace keelback::cli
