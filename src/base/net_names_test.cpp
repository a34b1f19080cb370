#include "base/net_names.h"

#include <gtest/gtest.h>

namespace keelback {
namespace {

bool in(std::string_view block, std::string_view address) {
  const auto parsed = parse_block(block);
  EXPECT_TRUE(parsed.has_value()) << block;
  return parsed && parsed->contains(*parse_address(address));
}

// Goal: a block holds its addresses and no neighbour, in both families, however they are written.
TEST(NetNames, ABlockHoldsItsAddresses) {
  EXPECT_TRUE(in("192.0.2.7", "192.0.2.7"));
  EXPECT_FALSE(in("192.0.2.7", "192.0.2.6"));
  EXPECT_TRUE(in("10.0.0.0/8", "10.255.255.255"));
  EXPECT_FALSE(in("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(in("192.0.2.128/25", "192.0.2.129"));
  EXPECT_FALSE(in("192.0.2.128/25", "192.0.2.127"));
  EXPECT_TRUE(in("0.0.0.0/0", "203.0.113.9"));
  EXPECT_FALSE(in("0.0.0.0/0", "2001:db8::1")) << "all of IPv4 is not IPv6";
  EXPECT_TRUE(in("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(in("2001:db8::/33", "2001:db8:8000::1"));
  EXPECT_TRUE(in("192.0.2.7", "::ffff:192.0.2.7")) << "as a socket for both families shows it";
  EXPECT_EQ(format_address(*parse_address("::ffff:192.0.2.7")), "192.0.2.7");
  EXPECT_EQ(format_address(*parse_address("2001:DB8::0:1")), "2001:db8::1");
}

// Goal: what is no address is refused by its name, so that no proxy is trusted by accident.
TEST(NetNames, AWrongAddressIsNamed) {
  for (const char* text :
       {"", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0/8", "proxy.internal", "127.1",
        "::1/129", "[::1]", "10.0.0.1:80", "10.0.0.0/8 ", "10.0.0.0/+8", "*"}) {
    const auto checked = check_proxy(text);
    ASSERT_FALSE(checked.has_value()) << text;
    EXPECT_NE(checked.error().find("'" + std::string(text) + "'"), std::string::npos)
        << checked.error();
  }
  EXPECT_TRUE(check_proxy("unix").has_value());
  EXPECT_TRUE(check_proxy("::1").has_value());
}

TEST(NetNames, APatternIsANameWithoutAnythingElse) {
  for (const char* text : {"api.example.com", "API.example.com:8443", "*.example.com", "localhost",
                           "192.0.2.1", "[2001:db8::1]", "[2001:db8::1]:80", "*.example.com:443"}) {
    EXPECT_TRUE(check_host_pattern(text).has_value()) << text;
  }
  for (const char* text :
       {"", "*", "*.", "*.com", "*example.com", "api.*.com", "http://api.example.com", "a b",
        "a..b", "api.example.com:", "api.example.com:99999", "api.example.com:http", "[::1",
        "[1.2.3.4]", "2001:db8::1", "api.example.com.", "a/b", "a,b"}) {
    EXPECT_FALSE(check_host_pattern(text).has_value()) << text;
  }
}

TEST(NetNames, AHostMatchesItsPatternOnly) {
  EXPECT_TRUE(host_matches("api.example.com", "API.Example.com"));
  EXPECT_TRUE(host_matches("api.example.com", "api.example.com:8443"));
  EXPECT_TRUE(host_matches("api.example.com:8443", "api.example.com:8443"));
  EXPECT_TRUE(host_matches("*.example.com", "a.example.com"));
  EXPECT_TRUE(host_matches("*.example.com", "b.a.example.com:80"));
  EXPECT_TRUE(host_matches("[2001:db8::1]", "[2001:DB8::1]:80"));
  for (const char* host :
       {"example.com", ".example.com", "evilexample.com", "a.example.com.evil.org",
        "a b.example.com", "..example.com", "evil.org:80.example.com", ""}) {
    EXPECT_FALSE(host_matches("*.example.com", host)) << host;
  }
  for (const char* host : {"api.example.com:80", "api.example.com", "api.example.com:8443x"}) {
    EXPECT_FALSE(host_matches("api.example.com:8443", host)) << host;
  }
  for (const char* host : {"xapi.example.com", "api.example.com.", "api.example.com.evil.org",
                           "api.example.com:", "api.example.com:x", "[api.example.com]"}) {
    EXPECT_FALSE(host_matches("api.example.com", host)) << host;
  }
}

// Goal: where a node is reached is a host and a port, and nothing else can hide in it.
TEST(NetNames, ReadsTheUrlOfANode) {
  EXPECT_EQ(*parse_node_url("http://node-1:8080"), (NodeUrl{"node-1", 8080, "node-1:8080"}));
  EXPECT_EQ(*parse_node_url("http://a.b_c.example/"),
            (NodeUrl{"a.b_c.example", 80, "a.b_c.example"}));
  EXPECT_EQ(*parse_node_url("http://10.0.0.7:1"), (NodeUrl{"10.0.0.7", 1, "10.0.0.7:1"}));
  EXPECT_EQ(*parse_node_url("http://[::1]:65535"), (NodeUrl{"::1", 65535, "[::1]:65535"}));
  for (const char* text : {"",
                           "node-1:8080",
                           "ftp://node-1",
                           "http://",
                           "http:///",
                           "http://a/b",
                           "http://a?b",
                           "http://u@a",
                           "http://u:p@a",
                           "http://a:0",
                           "http://a:65536",
                           "http://a:",
                           "http://a:8o",
                           "http://a b",
                           "http://[a]",
                           "http://[1.2.3.4]",
                           "http://[::1",
                           "http://::1",
                           "http://a//",
                           "http://a\r\nb",
                           "https://node-1:8080"}) {
    EXPECT_FALSE(parse_node_url(text)) << text;
  }
  EXPECT_EQ(parse_node_url("https://a").error(),
            "'https://a' is https, which nodes do not speak to each other: put a tunnel between "
            "them");
}

}  // namespace
}  // namespace keelback
