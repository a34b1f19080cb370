// What another node sends as its reply to a hop. The first byte says in which pieces it arrives.
// Beyond "does not crash": the pieces change nothing, an answer that is no outcome says why, and
// the limits hold.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "nodes/event_reader.h"
#include "nodes/hop_text.h"
#include "nodes/reply_reader.h"

namespace {

using namespace keelback::nodes;

struct Read {
  ReplyReader::Step last = ReplyReader::Step::kNeedMore;
  ReplyHead head;
  std::string body;
};

// As a connection feeds it: what was not used comes again, with the next piece.
Read read_in_pieces(std::string_view text, std::size_t piece, ReplyReader::Limits limits) {
  ReplyReader reader(limits);
  Read out;
  std::size_t begin = 0, end = 0;
  while (out.last == ReplyReader::Step::kNeedMore && end < text.size()) {
    end = std::min(text.size(), end + piece);
    for (;;) {
      std::size_t used = 0;
      out.last = reader.feed(text.substr(begin, end - begin), used);
      CHECK(used <= end - begin);
      begin += used;
      if (out.last != ReplyReader::Step::kHeader) break;
      out.head = reader.head();
    }
    if (out.last == ReplyReader::Step::kFailed) {
      CHECK(!reader.error().empty());
      return out;
    }
    const std::string more = reader.take_body();
    CHECK(more.size() <= limits.body_max);
    out.body += more;
  }
  return out;
}

std::vector<StreamEvent> events_in_pieces(std::string_view text, std::size_t piece) {
  EventReader reader;
  std::vector<StreamEvent> out;
  for (std::size_t at = 0; at < text.size(); at += piece) {
    reader.feed(text.substr(at, piece));
    while (auto event = reader.next()) out.push_back(std::move(*event));
  }
  CHECK(reader.held() <= text.size());
  return out;
}

void check_answer(const Answer& answer) {
  const bool must_say =
      answer.kind == Answer::Kind::kForeign || answer.kind == Answer::Kind::kRefused;
  CHECK(!must_say || !answer.why.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = 1 + data[0] % 64;
  const ReplyReader::Limits wide{.header_max = 1 << 20, .body_max = 1 << 20};
  Read whole = read_in_pieces(text, text.size() + 1, wide);
  const Read parts = read_in_pieces(text, piece, wide);
  CHECK(whole.last == parts.last && whole.head.status == parts.head.status);
  CHECK(whole.head.fields == parts.head.fields);
  if (whole.last == ReplyReader::Step::kDone) CHECK(whole.body == parts.body);
  static_cast<void>(read_in_pieces(text, piece, {.header_max = 64, .body_max = 32}));

  const std::vector<StreamEvent> events = events_in_pieces(whole.body, whole.body.size() + 1);
  const std::vector<StreamEvent> again = events_in_pieces(whole.body, piece);
  CHECK(events.size() == again.size());
  for (std::size_t i = 0; i < events.size(); ++i) {
    CHECK(events[i].name == again[i].name && events[i].data == again[i].data);
    check_answer(read_last_event(events[i].name, events[i].data));
  }
  if (whole.last == ReplyReader::Step::kDone) {
    check_answer(read_reply(whole.head, std::move(whole.body)));
  }
  return 0;
}
