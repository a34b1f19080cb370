// A client that sends any bytes and reads replies strictly: for tests of servers. Blocking; every
// wait ends after 10 s with a failed expectation of the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace keelback::testing {

struct RawResponse {
  int status = 0;                              // 0: none came, or it was not well-formed
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks already joined

  std::string header(const std::string& lower_name) const;
};

class RawClient {
 public:
  static RawClient tcp(std::uint16_t port, int receive_buffer = 0);  // 127.0.0.1
  static RawClient unix_socket(const std::string& path);
  RawClient(RawClient&& other) noexcept;
  RawClient& operator=(RawClient&& other) noexcept;
  ~RawClient();

  bool connected() const { return fd_ >= 0; }
  bool send(std::string_view bytes);
  void half_close();  // no more to send; still reading
  void close();
  void reset();  // closes with RST

  // One response; head: of a HEAD request, so without a body.
  RawResponse receive(bool head = false);
  // Reads until `text` has come, and returns all up to its end; nullopt if the stream ends before.
  std::optional<std::string> receive_until(std::string_view text);
  // The server has closed, and nothing more came.
  bool at_end();

 private:
  explicit RawClient(int fd) : fd_(fd) {}
  bool fill();  // more bytes into buffer_
  std::optional<std::string> take(std::size_t size);
  std::optional<std::string> take_line();

  int fd_ = -1;
  std::string buffer_;
};

}  // namespace keelback::testing
