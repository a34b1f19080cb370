// Every test of this suite runs against each program that speaks the worker protocol.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "protocol_peer.h"

namespace keelback::conformance {

using ::testing::HasSubstr;

inline constexpr std::uint64_t kBirth = 0xfeedfacecafebeef;  // of a session: any number
inline constexpr const char* kLong = "[600000]";  // ten minutes: nothing that ends, ends by itself

class Protocol : public ::testing::TestWithParam<Program> {
 protected:
  std::unique_ptr<Peer> ready() { return Peer::ready(GetParam()); }
};

// The bytes of the `number`th block of docs/protocol.md, Worked bytes; from 0.
std::string worked_bytes(int number);

inline void credit(Peer& peer, std::uint64_t call, std::uint32_t n) {
  std::string bytes;
  wire::append_credit(bytes, call, n);
  peer.send(bytes);
}

inline void expect_result(const Reply& reply, const Json& value) {
  EXPECT_EQ(reply.type, wire::Type::kResult)
      << wire::to_string(reply.type) << " " << reply.error.dump();
  EXPECT_EQ(reply.value, value);
}

inline void expect_error(const Reply& reply, wire::ErrorKind kind, std::string_view type,
                         std::string_view part_of_message = "") {
  EXPECT_EQ(reply.type, wire::Type::kError) << wire::to_string(reply.type) << " " << reply.value;
  EXPECT_EQ(reply.kind, kind) << reply.error;
  EXPECT_EQ(reply.error.value("type", ""), type) << reply.error;
  EXPECT_THAT(reply.error.value("message", "-"), HasSubstr(part_of_message));
  EXPECT_TRUE(reply.error.contains("traceback") && reply.error["traceback"].is_string());
}

}  // namespace keelback::conformance
