// The worked bytes of docs/protocol.md are what the codec writes and what every worker speaks. The
// page is the third party here: a mistake that two ends share does not pass.
#include <fstream>
#include <sstream>

#include "protocol_suite.h"

namespace keelback::conformance {

// The hex of the block; a line's comment begins after two spaces.
std::string worked_bytes(int number) {
  std::ifstream file(KEELBACK_SOURCE_DIR "/docs/protocol.md");
  std::string line;
  while (std::getline(file, line) && line != "## Worked bytes") {
  }
  for (int fences = 0; fences < 2 * number + 1 && std::getline(file, line);) {
    if (line == "```") ++fences;
  }
  std::string bytes;
  while (std::getline(file, line) && line != "```") {
    std::istringstream hex(line.substr(0, line.find("  ")));
    for (std::string byte; hex >> byte;) bytes += static_cast<char>(std::stoi(byte, nullptr, 16));
  }
  return bytes;
}

namespace {

TEST(WorkedBytes, AreWhatTheCodecWrites) {
  const std::string call = worked_bytes(0);
  ASSERT_EQ(call.size(), 70u);
  const Ask ask{.function = "echo",
                .payload = R"({"value":"Ada"})",
                .session = "ann",
                .birth = 0x0123456789abcdef,
                .epoch = 1,
                .opens = true};
  EXPECT_EQ(Peer::encode(7, ask), call);
  std::string result;
  wire::append_payload_head(result, wire::Type::kResult, 7, 5);
  EXPECT_EQ(result + "\"Ada\"", worked_bytes(1));

  EXPECT_EQ(Peer::encode(8, {.function = "together", .payload = "[5]", .row = 2}), worked_bytes(2));
  result.clear();
  wire::append_payload_head(result, wire::Type::kResult, 8, 1);
  EXPECT_EQ(result + "5", worked_bytes(3));

  std::string batch;
  wire::append_batch(batch, 9, 2);
  batch += Peer::encode(9, {.function = "gather", .payload = "[5]", .row = 1});
  batch += Peer::encode(10, {.function = "gather", .payload = "[]", .row = 2});
  EXPECT_EQ(batch, worked_bytes(4));
  result.clear();
  wire::append_payload_head(result, wire::Type::kResult, 9, 1);
  EXPECT_EQ(result + "5", worked_bytes(5));

  EXPECT_EQ(
      Peer::encode(11, {.function = "relay", .payload = R"({"function":"echo","arguments":[5]})"}),
      worked_bytes(6));
  std::string nested;
  ASSERT_TRUE(wire::append_nested_head(
      nested, {.parent = 11, .request = 1, .name = "echo", .payload = "[5]"}));
  EXPECT_EQ(nested + "[5]", worked_bytes(7));
  std::string outcome;
  wire::append_outcome_head(outcome, {.parent = 11, .request = 1, .ok = true, .json = "5"});
  EXPECT_EQ(outcome + "5", worked_bytes(8));
  result.clear();
  wire::append_payload_head(result, wire::Type::kResult, 11, 1);
  EXPECT_EQ(result + "5", worked_bytes(9));
}

TEST_P(Protocol, SpeaksTheWorkedBytes) {
  auto peer = ready();
  for (const int block : {0, 2, 4}) {
    peer->send_packets({worked_bytes(block)});
    auto result = peer->next();
    if (block == 4) {
      ASSERT_TRUE(result && result->type() == wire::Type::kError);
      EXPECT_EQ(result->header.call, 10u);
      result = peer->next();
    }
    ASSERT_TRUE(result);
    char header[wire::kHeaderBytes];
    wire::write_header(header, result->header);
    EXPECT_EQ(std::string(header, sizeof header) + result->body, worked_bytes(block + 1));
  }
  for (const auto offset : {wire::kMarkStarted, wire::kMarkEnded}) {
    EXPECT_EQ(peer->mark(offset), 9u) << "of the batch, which came last";
  }
  EXPECT_EQ(peer->row_mark(1, wire::kRowStarted), 9u);
  EXPECT_EQ(peer->row_mark(1, wire::kRowEnded), 9u);
  EXPECT_EQ(peer->row_mark(2, wire::kRowStarted), 8u);
  EXPECT_EQ(peer->row_mark(2, wire::kRowEnded), 8u);
}

}  // namespace
}  // namespace keelback::conformance
