#include "server/access.h"

#include <gtest/gtest.h>

namespace keelback::server {
namespace {

Request request_with(std::initializer_list<std::pair<Header, const char*>> headers) {
  Request request;
  for (const auto& [header, value] : headers) {
    request.seen |= 1U << static_cast<int>(header);
    request.values[static_cast<std::size_t>(header)] = value;
  }
  return request;
}
int refusal(const Request& request, Door door, std::string_view token, bool open = false,
            const std::vector<std::string>& allowed = {}) {
  const std::vector<std::string> listen = {"svc.internal"};
  const Access access = check_access(request, door, token, {listen, allowed}, open);
  return access.refusal ? access.refusal->status : 0;
}
constexpr Door kLoopback{.loopback = true};
constexpr Door kPublic{};
constexpr Door kOurSocket{.trusted = true, .unix_socket = true};
constexpr Door kForeignSocket{.unix_socket = true};

// Goal: DNS rebinding finds no way in: without a token the Host must be a name of ours.
TEST(Access, WithoutATokenTheHostMustBeOurs) {
  for (const char* host : {"localhost", "LOCALHOST:8080", "127.0.0.1:80", "127.9.9.9", "[::1]:8080",
                           "svc.internal:1"}) {
    EXPECT_EQ(refusal(request_with({{Header::kHost, host}}), kLoopback, ""), 0) << host;
  }
  for (const char* host :
       {"evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "128.0.0.1", "127.1",
        "0x7f.0.0.1", "127.0.0.256", "", ":80", "[::1", "localhost:x"}) {
    EXPECT_EQ(refusal(request_with({{Header::kHost, host}}), kLoopback, ""), 403) << host;
  }
  EXPECT_EQ(refusal(request_with({}), kLoopback, ""), 400) << "HTTP/1.1 without Host";
}

// Goal: server.allowed_hosts lets its names in, and not one more; a foreign page stays outside.
TEST(Access, FurtherNamesAreThoseOfTheSetting) {
  const std::vector<std::string> allowed = {"api.example.com", "app.example.com:8443",
                                            "*.test.org"};
  const auto answer = [&](const char* host, const char* origin = nullptr) {
    Request request = request_with({{Header::kHost, host}});
    if (origin != nullptr)
      request = request_with({{Header::kHost, host}, {Header::kOrigin, origin}});
    return refusal(request, kLoopback, "", false, allowed);
  };
  for (const char* host : {"api.example.com", "API.EXAMPLE.COM", "api.example.com:8080",
                           "app.example.com:8443", "a.test.org", "b.a.test.org:1", "localhost"}) {
    EXPECT_EQ(answer(host), 0) << host;
  }
  for (const char* host :
       {"example.com", "xapi.example.com", "api.example.com.evil.org", "test.org",
        "app.example.com", "app.example.com:80", "eviltest.org", "evil.org"}) {
    EXPECT_EQ(answer(host), 403) << host;
  }
  EXPECT_EQ(answer("api.example.com", "https://api.example.com"), 0);
  EXPECT_EQ(answer("api.example.com", "https://evil.org"), 403);
  EXPECT_EQ(answer("api.example.com", "https://app.example.com:8443"), 403);
}

// Goal: pages of other origins are refused everywhere, also where a token or a file mode guards.
TEST(Access, ForeignOriginsAreRefused) {
  const auto from = [](const char* origin) {
    return request_with({{Header::kHost, "localhost:80"},
                         {Header::kOrigin, origin},
                         {Header::kAuthorization, "Bearer s"}});
  };
  EXPECT_EQ(refusal(from("http://localhost:80"), kLoopback, ""), 0);
  for (const char* origin :
       {"http://evil.example", "null", "http://localhost:81", "", "localhost:80"}) {
    EXPECT_EQ(refusal(from(origin), kLoopback, ""), 403) << origin;
    EXPECT_EQ(refusal(from(origin), kPublic, "s"), 403) << origin;
    EXPECT_EQ(refusal(from(origin), kOurSocket, ""), 403) << origin;
  }
}

// Goal: with a token nothing but the token opens the door, whatever the Host says.
TEST(Access, ATokenIsNeededWhereOneIsSet) {
  const auto with = [](const char* authorization) {
    return request_with({{Header::kHost, "any.example"}, {Header::kAuthorization, authorization}});
  };
  for (const Door door : {kLoopback, kPublic, kForeignSocket}) {
    EXPECT_EQ(refusal(with("Bearer secret"), door, "secret"), 0);
    EXPECT_EQ(refusal(with("bearer  secret"), door, "secret"), 0);
    for (const char* bad : {"Bearer secre", "Bearer secrets", "Bearer ", "Bearer", "Basic secret",
                            "", "Bearer Secret"}) {
      EXPECT_EQ(refusal(with(bad), door, "secret"), 401) << bad;
    }
    EXPECT_EQ(refusal(with("Bearer no"), door, "secret", true), 0) << "an open route";
    const std::vector<std::string> none;
    EXPECT_FALSE(check_access(with("Bearer no"), door, "secret", {none, none}, true).authorised);
  }
  EXPECT_EQ(refusal(with(""), kOurSocket, "secret"), 0) << "the file system has asked already";
  EXPECT_EQ(refusal(with(""), kPublic, ""), 403) << "the token was taken away at run time";
  EXPECT_FALSE(equal_in_constant_time("", ""));
}

}  // namespace
}  // namespace keelback::server
