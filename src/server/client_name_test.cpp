#include "server/client_name.h"

#include <gtest/gtest.h>

namespace keelback::server {
namespace {

const std::vector<std::string> kProxies = {"10.0.0.0/8", "2001:db8:1::/48"};

std::string name(std::string_view peer, const char* forwarded, const char* forwarded_for,
                 const std::vector<std::string>& proxies = kProxies) {
  Request request;
  const auto set = [&](Header header, const char* value) {
    if (value == nullptr) return;
    request.seen |= 1U << static_cast<int>(header);
    request.values[static_cast<std::size_t>(header)] = value;
  };
  set(Header::kForwarded, forwarded);
  set(Header::kForwardedFor, forwarded_for);
  return client_name(request, peer, proxies);
}

// Goal: who is no proxy of ours is named by its own address, whatever it claims.
TEST(ClientName, AStrangersClaimsCountForNothing) {
  EXPECT_EQ(name("203.0.113.9", nullptr, "192.0.2.1"), "203.0.113.9");
  EXPECT_EQ(name("203.0.113.9", "for=192.0.2.1", nullptr), "203.0.113.9");
  EXPECT_EQ(name("unix", nullptr, "192.0.2.1"), "unix");
  EXPECT_EQ(name("10.0.0.1", nullptr, "192.0.2.1", {}), "10.0.0.1");
  EXPECT_EQ(name("10.0.0.1", nullptr, nullptr), "10.0.0.1");
}

// Goal: what a client puts in front of a list that our proxies append to does not count.
TEST(ClientName, TheListIsWalkedFromTheRightOverTrustedHops) {
  EXPECT_EQ(name("10.0.0.1", nullptr, "192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(name("10.0.0.1", nullptr, "6.6.6.6, 192.0.2.1"), "192.0.2.1") << "6.6.6.6 is invented";
  EXPECT_EQ(name("10.0.0.1", nullptr, "6.6.6.6, 192.0.2.1, 10.0.0.2"), "192.0.2.1");
  EXPECT_EQ(name("10.0.0.1", nullptr, "6.6.6.6, 10.9.9.9,192.0.2.1 ,10.0.0.2"), "192.0.2.1");
  EXPECT_EQ(name("10.0.0.1", nullptr, "10.0.0.3, 10.0.0.2"), "10.0.0.3") << "a client inside";
  EXPECT_EQ(name("2001:db8:1::1", nullptr, "2001:db8:2::7"), "2001:db8:2::7");
  EXPECT_EQ(name("unix", nullptr, "192.0.2.1", {"unix"}), "192.0.2.1");
  EXPECT_EQ(name("unix", nullptr, "192.0.2.1, unix:", {"unix"}), "192.0.2.1");
}

TEST(ClientName, ForwardedIsReadAsItsStandardWritesIt) {
  EXPECT_EQ(name("10.0.0.1", "for=192.0.2.60;proto=http;by=203.0.113.43", nullptr), "192.0.2.60");
  EXPECT_EQ(name("10.0.0.1", R"(For="[2001:db8:cafe::17]:4711")", nullptr), "2001:db8:cafe::17");
  EXPECT_EQ(
      name("10.0.0.1", R"(for=6.6.6.6, by=x ; FOR="192.0.2.43:47011", for=10.0.0.2)", nullptr),
      "192.0.2.43");
  EXPECT_EQ(name("10.0.0.1", R"(for="6.6.6.6, for=192.0.2.1")", nullptr), "10.0.0.1")
      << "a comma in quotes separates nothing";
}

// Goal: what is no address ends the walk: left of it nothing is known to be true.
TEST(ClientName, WhatIsNoAddressEndsTheWalk) {
  for (const char* list : {"6.6.6.6, unknown", "6.6.6.6, _hidden", "6.6.6.6, ", "6.6.6.6, 1.2.3",
                           "6.6.6.6, \x1b[31m", "6.6.6.6, [::1", "", ","}) {
    EXPECT_EQ(name("10.0.0.1", nullptr, list), "10.0.0.1") << list;
  }
  EXPECT_EQ(name("10.0.0.1", "for=6.6.6.6, for=unknown", nullptr), "10.0.0.1");
  EXPECT_EQ(name("10.0.0.1", "for=6.6.6.6, proto=https", nullptr), "10.0.0.1");
  EXPECT_EQ(name("10.0.0.1", "\"for=6.6.6.6", nullptr), "10.0.0.1") << "a quote that does not end";
}

// Goal: a client cannot use the header that its proxy does not write.
TEST(ClientName, TwoHeadersThatDisagreeNameTheProxy) {
  EXPECT_EQ(name("10.0.0.1", "for=6.6.6.6", "192.0.2.1"), "10.0.0.1");
  EXPECT_EQ(name("10.0.0.1", "for=192.0.2.1", "6.6.6.6, 192.0.2.1"), "192.0.2.1");
}

}  // namespace
}  // namespace keelback::server
