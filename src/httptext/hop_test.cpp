#include "httptext/hop.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace keelback::httptext {
namespace {

SignedHead a_head() {
  SignedHead head{.method = "POST", .target = "/v1/call/count"};
  head.set(Header::kHost, "node-b:8080");
  head.set(Header::kContentType, "application/json");
  head.set(Header::kSession, "ann");
  head.set(Header::kDeadlineMs, "500");
  return head;
}

// Goal: the scheme stays what other versions know. The value is that of Python's hmac:
//   hmac.new(b"secret", b"keelback-hop 1\nnode-a\nPOST\n/v1/call/count\nContent-Type:"
//     b"application/json\nKeelback-Session:ann\nKeelback-Deadline-Ms:500\n", "sha256").hexdigest()
TEST(Hop, IsSignedAsItAlwaysWas) {
  EXPECT_EQ(sign_hop("secret", "node-a", a_head()),
            "1 node-a 6073475d3206073fb4da0f6b8c47bf059970e15051f49cb3234f83d2dea41698");
  EXPECT_EQ(content_digest(""), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
  EXPECT_EQ(content_digest(R"({"hello": "world"})"),
            "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:")
      << "the example of RFC 9530";
}

// Goal: nobody can change a word of what was signed, and only the token's holders sign.
TEST(Hop, TellsEachChange) {
  SignedHead head = a_head();
  const std::string value = sign_hop("secret", "node-a", head);
  head.set(Header::kHop, value);
  EXPECT_EQ(signer_of("secret", head), "node-a");
  EXPECT_FALSE(signer_of("Secret", head));
  EXPECT_EQ(signer_of("", head).error(), "no cluster.token is set here");

  for (int i = 0; i < kHeaders; ++i) {
    const auto header = static_cast<Header>(i);
    if (header == Header::kHop) continue;
    SignedHead changed = head;
    changed.set(header, "something else");
    EXPECT_EQ(signer_of("secret", changed).has_value(), !is_signed(header)) << to_string(header);
    changed.headers[static_cast<std::size_t>(i)].reset();
    const bool had = head.headers[static_cast<std::size_t>(i)].has_value();
    EXPECT_EQ(signer_of("secret", changed).has_value(), !is_signed(header) || !had)
        << to_string(header);
  }
  SignedHead other = head;
  other.method = "DELETE";
  EXPECT_FALSE(signer_of("secret", other));
  other = head;
  other.target = "/v1/call/count2";
  EXPECT_FALSE(signer_of("secret", other));
}

// Goal: a header of another form is refused in a sentence.
TEST(Hop, RefusesWhatIsNoSignature) {
  const std::string right = sign_hop("secret", "node-a", a_head());
  const std::string hex = right.substr(right.rfind(' ') + 1);
  const std::vector<std::string> wrong = {
      "",
      "1",
      "1 ",
      "1  " + hex,
      "1 node-a",
      "1 node-a ",
      "2 node-a " + hex,
      "1 node-b " + hex,
      "1 node-a " + hex + "0",
      "1 node-a " + hex.substr(1),
      "1 node-a  " + hex,
      "1 node-a " + hex + " ",
      "1 node a " + hex,
  };
  for (const std::string& value : wrong) {
    SignedHead head = a_head();
    head.set(Header::kHop, value);
    const auto signer = signer_of("secret", head);
    ASSERT_FALSE(signer.has_value()) << value;
    EXPECT_EQ(signer.error().find(hex), std::string::npos) << "it never tells what is right";
  }
  EXPECT_FALSE(signer_of("secret", a_head())) << "there is none";
}

}  // namespace
}  // namespace keelback::httptext
