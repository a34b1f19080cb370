#include "server/call_body.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <span>
#include <utility>

#include "base/dtype.h"
#include "base/utf8.h"
#include "httptext/multipart.h"
#include "httptext/same_word.h"
#include "os/random.h"
#include "server/accept.h"
#include "server/json.h"
#include "server/target.h"

namespace keelback::server {
namespace {

constexpr std::string_view kArguments = "arguments";
constexpr std::string_view kResult = "result";
constexpr std::string_view kOctetStream = "application/octet-stream";
constexpr std::string_view kForm = "multipart/form-data";
constexpr std::string_view kText = "text/plain";

// The shape of an array that comes without one: one row of all its elements. The core checks
// whether the bytes make whole elements.
std::optional<std::string> read_array(std::string_view dtype, std::optional<std::string_view> shape,
                                      Attachment& attachment) {
  attachment.dtype = dtype;
  if (!shape) {
    if (const auto item = dtype_bytes(dtype)) attachment.shape = {attachment.data.size() / *item};
    return std::nullopt;
  }
  if (httptext::read_shape(*shape, attachment.shape)) return std::nullopt;
  return fmt::format("Keelback-Shape must be at most {} whole numbers with commas between",
                     httptext::kExtentsMax);
}

std::optional<std::string> read_octets(Request& request, Call& call) {
  Attachment attachment;
  attachment.name = request.has(Header::kAttachment) ? request.get(Header::kAttachment) : "data";
  if (!is_utf8(attachment.name)) return "Keelback-Attachment is not UTF-8";
  call.payload = request.has(Header::kArguments) ? request.get(Header::kArguments) : "{}";
  attachment.data = Buffer(std::move(request.body));
  const auto shape =
      request.has(Header::kShape) ? std::optional(request.get(Header::kShape)) : std::nullopt;
  if (auto wrong = read_array(request.get(Header::kDtype), shape, attachment)) return wrong;
  call.attachments.push_back(std::move(attachment));
  return std::nullopt;
}

std::optional<std::string> read_multipart(Request& request, Call& call) {
  const std::string boundary = httptext::boundary_of(request.get(Header::kContentType));
  if (boundary.empty()) return "the Content-Type of a multipart body has no usable boundary";
  // Shared by the attachments that lie in it.
  const auto body = std::make_shared<const std::string>(std::move(request.body));
  const auto parts = httptext::parse_multipart(*body, boundary, httptext::kFormPartsMax);
  if (!parts) return parts.error();
  bool has_arguments = false;
  call.payload = "{}";
  for (const httptext::Part& part : *parts) {
    if (part.name == kArguments) {
      if (std::exchange(has_arguments, true)) return "two parts are named \"arguments\"";
      call.payload = part.data;
      continue;
    }
    if (!is_utf8(part.name)) return "the name of a part is not UTF-8";
    Attachment attachment;
    attachment.name = part.name;
    attachment.filename = part.filename.value_or("");
    if (!is_utf8(attachment.filename)) return "the file name of a part is not UTF-8";
    attachment.content_type = part.content_type;
    // RFC 7578: a part without a type is text. A file or an array has said what it is.
    const bool is_field = !part.filename && part.dtype.empty() && part.content_type.empty();
    if (is_field) attachment.content_type = kText;
    attachment.data = Buffer(std::as_bytes(std::span(part.data)), body);
    if (auto wrong = read_array(part.dtype, part.shape, attachment)) return wrong;
    call.attachments.push_back(std::move(attachment));
  }
  return std::nullopt;
}

// A header's value must not end its line.
std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  }
  return out;
}

// The shape of an array without extents is empty, and still there.
std::string array_headers(const Attachment& attachment) {
  if (attachment.dtype.empty()) return "";
  return fmt::format("Keelback-Dtype: {}\r\nKeelback-Shape: {}\r\n", one_line(attachment.dtype),
                     fmt::join(attachment.shape, ","));
}

std::string_view type_of(const Attachment& attachment) {
  return is_media_type(attachment.content_type) ? std::string_view(attachment.content_type)
                                                : kOctetStream;
}

// RFC 6266.
std::string disposition_of(const std::string& filename) {
  if (filename.empty()) return "";
  std::string ascii = one_line(filename);
  std::string encoded;
  for (char& c : ascii) {
    if (c == '"' || c == '\\' || static_cast<unsigned char>(c) >= 127) c = '_';
  }
  for (const char c : filename) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_';
    encoded += plain ? std::string(1, c)
                     : fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  std::string header = fmt::format("Content-Disposition: attachment; filename=\"{}\"", ascii);
  if (ascii != filename) header += "; filename*=UTF-8''" + encoded;
  return header + "\r\n";
}

// The type as which an outcome's only attachment is the whole body; empty: a form is sent.
std::string_view body_type(const Outcome& outcome, std::string_view accept) {
  if (outcome.attachments.size() != 1) return {};
  const Attachment& only = outcome.attachments.front();
  const std::string_view type = type_of(only);
  const bool has_type = !only.content_type.empty() && type == only.content_type;
  const Taken how = taken(accept, type);
  if (has_type && how >= Taken::kAsItsKind) return type;
  if (accepts(accept, kOctetStream)) return kOctetStream;
  // The client has not named this type, so nothing beside the attachment may be lost.
  const bool is_all = outcome.payload == dump(Json::object({{"$attachment", only.name}}));
  return has_type && is_all && how != Taken::kNo && !accepts(accept, kForm) ? type
                                                                            : std::string_view();
}

enum class Form {
  kForClients,  // each part has a file name and a type, so that every library reads it as a file
  kExact,
};
AttachedReply write_form(const Outcome& outcome, std::string_view boundary, Form form) {
  AttachedReply reply;
  std::size_t bytes = outcome.payload.size();
  for (const Attachment& each : outcome.attachments) bytes += each.data.size() + 1024;
  reply.content_type = fmt::format("multipart/form-data; boundary={}", boundary);
  reply.body.reserve(bytes + 512);
  httptext::append_part_head(reply.body, boundary,
                             {.name = kResult, .content_type = "application/json"});
  reply.body += outcome.payload;
  for (const Attachment& each : outcome.attachments) {
    const std::string headers = array_headers(each);
    const std::string exact_type = one_line(each.content_type);
    const bool exact = form == Form::kExact;
    httptext::append_part_head(
        reply.body, boundary,
        {.name = each.name,
         .filename = !exact && each.filename.empty() ? each.name : each.filename,
         .content_type = exact ? std::string_view(exact_type) : type_of(each),
         .headers = headers});
    reply.body += each.data.view();
  }
  httptext::append_multipart_end(reply.body, boundary);
  return reply;
}

}  // namespace

std::optional<BodyKind> body_kind(const Request& request) {
  if (!request.has(Header::kContentType) && !request.has_body) return BodyKind::kJsonOnly;
  const std::string_view type = media_type(request.get(Header::kContentType));
  if (httptext::same_word(type, "application/json")) return BodyKind::kJsonOnly;
  if (httptext::same_word(type, kOctetStream)) return BodyKind::kOctets;
  if (httptext::same_word(type, kForm)) return BodyKind::kMultipart;
  return std::nullopt;
}

std::optional<Header> stray_header(BodyKind kind, const Request& request) {
  if (kind == BodyKind::kOctets) return std::nullopt;
  for (const Header header : {Header::kDtype, Header::kShape, Header::kArguments}) {
    if (request.has(header)) return header;
  }
  if (kind == BodyKind::kJsonOnly && request.has(Header::kAttachment)) return Header::kAttachment;
  return std::nullopt;
}

std::optional<std::string> read_call_body(BodyKind kind, Request& request, Call& call) {
  switch (kind) {
    case BodyKind::kOctets:
      return read_octets(request, call);
    case BodyKind::kMultipart:
      return read_multipart(request, call);
    case BodyKind::kJsonOnly:
      break;
  }
  if (!request.body.empty()) call.payload = std::move(request.body);
  return std::nullopt;
}

AttachedReply write_attached(Outcome&& outcome, std::string_view accept,
                             std::string_view boundary) {
  AttachedReply reply;
  if (const std::string_view type = body_type(outcome, accept); !type.empty()) {
    const Attachment& only = outcome.attachments.front();
    reply.content_type = type;
    reply.headers = fmt::format("Keelback-Attachment: {}\r\n", one_line(only.name)) +
                    array_headers(only) + disposition_of(only.filename);
    reply.body = only.data.view();
    return reply;
  }
  return write_form(outcome, boundary, Form::kForClients);
}

AttachedReply write_exactly(const Outcome& outcome, std::string_view boundary) {
  return write_form(outcome, boundary, Form::kExact);
}

std::string fresh_boundary() { return httptext::form_boundary(os::random_text()); }

}  // namespace keelback::server
