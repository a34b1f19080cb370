// The reader of one HTTP/1.1 reply, fed with bytes in any pieces. Boost.Beast parses, as for
// requests (src/server/request.h). Interim replies (100 Continue) are passed over. A reply whose
// length only the end of the connection would tell is refused: nobody could see that it was cut.
#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "nodes/hop_text.h"

namespace keelback::nodes {

class ReplyReader {
 public:
  struct Limits {
    std::size_t header_max = 16 << 10;    // status line and fields, bytes; any chunk header, too
    std::uint64_t body_max = 1ULL << 30;  // bytes that nobody has taken
  };
  enum class Step {
    kNeedMore,  // everything that could be used was used
    kHeader,    // once: head() is complete
    kDone,
    kFailed,  // error()
  };
  explicit ReplyReader(Limits limits);
  ~ReplyReader();

  // Uses the first `used` bytes of `data`. Pass the rest again, with the bytes that come after it.
  Step feed(std::string_view data, std::size_t& used);

  const ReplyHead& head() const;
  // The bytes of the body that have come since the last time.
  std::string take_body();
  const std::string& error() const { return error_; }

 private:
  class Parser;
  Step fail(std::string why);

  Limits limits_;
  std::unique_ptr<Parser> parser_;
  bool header_reported_ = false;
  std::string error_;
};

}  // namespace keelback::nodes
