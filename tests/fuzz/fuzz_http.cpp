// What strangers send to the HTTP server: requests, targets, headers. The first byte says in how
// large pieces the rest arrives. Beyond "does not crash": pieces never matter, limits hold.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/json_text.h"
#include "base/utf8.h"
#include "httptext/percent.h"
#include "server/access.h"
#include "server/call_headers.h"
#include "server/providing.h"
#include "server/request.h"
#include "server/target.h"

namespace {

using namespace keelback;
using server::RequestReader;

constexpr std::size_t kHeaderMax = 2048;
constexpr std::uint64_t kBodyMax = 512;

struct Read {
  RequestReader::Step last = RequestReader::Step::kNeedMore;
  std::size_t used = 0;
  int status = 0;
  server::Request request;
};

// As a connection does: a window that grows by `piece` bytes until the request is whole.
void read(std::string_view text, std::size_t piece, Read& out) {
  RequestReader reader(out.request, {.header_max = kHeaderMax});
  std::size_t end = 0;
  for (;;) {
    std::size_t used = 0;
    out.last = reader.feed(text.substr(out.used, end - out.used), used);
    CHECK(used <= end - out.used);
    out.used += used;
    CHECK(out.request.body.size() <= kBodyMax);
    if (out.last == RequestReader::Step::kHeader) {
      reader.set_body_max(kBodyMax, false);
    } else if (out.last == RequestReader::Step::kFailed) {
      out.status = reader.error_status();
      CHECK(out.status >= 400 && !reader.error().empty());
      return;
    } else if (out.last == RequestReader::Step::kDone || end == text.size()) {
      return;
    } else {
      end = std::min(end + piece, text.size());
    }
  }
}

void use(const server::Request& request) {
  if (const auto target = server::parse_target(request.target)) {
    for (const std::string& segment : target->segments) CHECK(is_utf8(segment));
    const server::Match match = server::match_route(request.method, *target);
    CHECK(!match.route || match.path_known);
    CHECK(server::nearest_route(target->path).starts_with('/'));
    if (const auto names = server::read_provided_names(*target)) {
      CHECK(!names->empty() && names->size() <= server::kProvidedNamesMax);
      for (const std::string& name : *names) {
        CHECK(!name.empty() && name.size() <= server::kProvidedNameMax && is_utf8(name));
      }
    }
  }
  if (const auto headers = server::read_call_headers(request)) {
    CHECK(headers->call.session.size() <= 256 && is_utf8(headers->call.session));
    CHECK(!headers->call.deadline || headers->call.deadline->count() > 0);
    CHECK(!headers->call.expect_epoch || headers->call.expect_epoch->epoch > 0);
  }
  if (const auto result =
          server::read_answer(server::AnswerKind::kResult, std::string(request.body))) {
    CHECK(result->ok && is_json(result->result));
  }
  if (const auto error =
          server::read_answer(server::AnswerKind::kError, std::string(request.body))) {
    CHECK(!error->ok && !(error->error_type.empty() && error->error_message.empty()));
  }
  if (!request.unknown.empty()) CHECK(!server::nearest_header(request.unknown).empty());
  const std::vector<std::string> none;
  for (const bool loopback : {true, false}) {
    const server::Door door{.loopback = loopback};
    CHECK(!server::check_access(request, door, "a secret that is in no corpus", {none, none}, false)
               .authorised);
    CHECK(loopback || server::check_access(request, door, "", {none, none}, false).refusal);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  Read whole;
  read(text, text.size() + 1, whole);
  if (whole.last == RequestReader::Step::kDone) {
    use(whole.request);
    Read pieces;
    read(text, 1 + data[0] % 64, pieces);
    CHECK(pieces.last == RequestReader::Step::kDone && pieces.used == whole.used);
    CHECK(pieces.request.body == whole.request.body);
    CHECK(pieces.request.target == whole.request.target);
    CHECK(pieces.request.seen == whole.request.seen);
  }
  static_cast<void>(httptext::percent_decode(text, true));
  return 0;
}
