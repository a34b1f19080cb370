#include "server/request.h"

#include <gtest/gtest.h>

#include <string>

namespace keelback::server {
namespace {

using Step = RequestReader::Step;

struct Result {
  Step last = Step::kNeedMore;
  int status = 0;
  std::size_t used = 0;
  Request request;
};

// Feeds `text` as a buffer that grows by the given pieces, as a connection does.
Result read(std::string_view text, std::size_t first_piece, std::size_t header_max = 1024,
            std::uint64_t body_max = 100) {
  Result result;
  RequestReader reader(result.request, {.header_max = header_max});
  std::size_t end = std::min(first_piece, text.size());
  for (;;) {
    std::size_t used = 0;
    result.last = reader.feed(text.substr(result.used, end - result.used), used);
    result.used += used;
    if (result.last == Step::kHeader) {
      reader.set_body_max(body_max, false);
    } else if (result.last == Step::kNeedMore) {
      if (end == text.size()) return result;
      end = text.size();
    } else {
      if (result.last == Step::kFailed) result.status = reader.error_status();
      return result;
    }
  }
}

// Goal: where the network cuts a request has no influence on what is read, for plain and for
// chunked bodies, and what follows the request is left alone.
TEST(RequestReader, ReadsTheSameHoweverTheBytesAreCut) {
  const std::string next = "GET /next HTTP/1.1\r\n";
  const std::string plain =
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nkeelback-SESSION:  ann \r\n"
      "Content-Length: 5\r\n\r\n[1,2]";
  const std::string chunked =
      "POST /v1/call/f HTTP/1.1\r\nHost: localhost\r\nKeelback-Session: ann\r\n"
      "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\n[1\r\n3\r\n,2]\r\n0\r\nHost: evil\r\n\r\n";
  for (const std::string& text : {plain, chunked}) {
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      const Result result = read(text + next, cut);
      ASSERT_EQ(result.last, Step::kDone) << cut;
      ASSERT_EQ(result.used, text.size()) << cut;
      ASSERT_EQ(result.request.method, "POST");
      ASSERT_EQ(result.request.target, "/v1/call/f");
      ASSERT_EQ(result.request.get(Header::kSession), "ann");
      ASSERT_EQ(result.request.get(Header::kHost), "localhost") << "a trailer changes nothing";
      ASSERT_FALSE(result.request.repeated());
      ASSERT_EQ(result.request.body, "[1,2]") << cut;
    }
  }
}

// Goal: the header limit is on the sum, also when the lines come one by one.
TEST(RequestReader, LimitsTheWholeHeader) {
  const std::string lines = "GET / HTTP/1.1\r\n" + [] {
    std::string text;
    for (int i = 0; i < 50; ++i) text += "X-Padding: 1234567890\r\n";
    return text;
  }();
  for (std::size_t cut = 0; cut < lines.size(); cut += 7) {
    ASSERT_EQ(read(lines, cut).status, 431) << cut;
  }
  // Line by line, so that no piece alone is near the limit.
  Request request;
  RequestReader reader(request, {.header_max = 1024});
  Step step = Step::kNeedMore;
  std::size_t begin = 0;
  std::size_t end = 0;
  while (step == Step::kNeedMore && end < lines.size()) {
    end = lines.find('\n', end) + 1;
    std::size_t used = 0;
    step = reader.feed(std::string_view(lines).substr(begin, end - begin), used);
    begin += used;
  }
  EXPECT_EQ(step, Step::kFailed);
  EXPECT_EQ(reader.error_status(), 431);
  EXPECT_GT(end, 1024U);
  EXPECT_LT(end, 1024U + 64);
  EXPECT_EQ(read("GET /" + std::string(2000, 'a'), 10).status, 431);
  std::string many = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 200; ++i) many += "A: b\r\n";
  EXPECT_EQ(read(many + "\r\n", 1, 1 << 20).status, 431);
}

// Goal: everything by which two parsers could disagree about where a request ends is refused.
TEST(RequestReader, RefusesWhatIsAmbiguous) {
  const std::pair<const char*, int> cases[] = {
      {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400},
      {"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
      {"Content-Length: -1\r\n\r\n", 400},
      {"Content-Length: 99999999999999999999\r\n\r\n", 400},
      {"Content-Length: 0x5\r\n\r\n", 400},
      {"Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"Transfer-Encoding: identity\r\n\r\n", 501},
      {"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
      {"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", 400},
      {"Name : space\r\n\r\n", 400},
      {"no colon\r\n\r\n", 400},
      {"Bad: \x01\r\n\r\n", 400},
      {"Transfer-Encoding: chunked\r\n\r\n65\r\n", 413},  // 101 bytes announced: one too many
  };
  for (const auto& [text, status] : cases) {
    EXPECT_EQ(read(std::string("POST / HTTP/1.1\r\n") + text, 1).status, status) << text;
  }
  EXPECT_EQ(read("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 1).status, 400);
  EXPECT_EQ(read("GET / HTTP/2.0\r\n\r\n", 1).status, 505);
  EXPECT_EQ(read("GET  / HTTP/1.1\r\n\r\n", 1).status, 400);
  EXPECT_EQ(read("\x16\x03\x01 TLS", 1).status, 400);
  const std::string chunk = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n";
  EXPECT_EQ(read(chunk + std::string(101, 'x'), 1).status, 413) << "one past body_max";
  EXPECT_EQ(read("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" +
                     std::string(100, 'x') + "\r\n0\r\n\r\n",
                 1)
                .last,
            Step::kDone)
      << "body_max itself";
}

// Goal: each proxy may append a header line of its own; together they are one list, in order.
TEST(RequestReader, ListsOfProxiesAreJoined) {
  const Result result = read(
      "GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=a\r\n"
      "x-forwarded-for: 192.0.2.2, 192.0.2.3\r\nforwarded: for=b\r\n\r\n",
      1);
  EXPECT_EQ(result.request.get(Header::kForwardedFor), "192.0.2.1, 192.0.2.2, 192.0.2.3");
  EXPECT_EQ(result.request.get(Header::kForwarded), "for=a, for=b");
  EXPECT_EQ(result.request.repeated(), std::nullopt);
  EXPECT_FALSE(result.request.has_ours());
}

// Goal: a misspelt header of ours is found, and so is one that came twice.
TEST(RequestReader, NoticesUnknownAndRepeatedHeaders) {
  const Result result = read(
      "GET / HTTP/1.1\r\nKeelback-Sesion: a\r\nKeelback-Priority: low\r\n"
      "keelback-priority: high\r\nAccept: a\r\nAccept: b\r\n\r\n",
      1);
  EXPECT_EQ(result.request.unknown, "Keelback-Sesion");
  EXPECT_EQ(nearest_header("Keelback-Sesion"), "Keelback-Session");
  EXPECT_EQ(nearest_header("keelback-deadline"), "Keelback-Deadline-Ms");
  EXPECT_EQ(result.request.repeated(), Header::kPriority);
  EXPECT_EQ(result.request.get(Header::kAccept), "a, b");
}

}  // namespace
}  // namespace keelback::server
