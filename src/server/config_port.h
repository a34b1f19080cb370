// What the server needs of the configuration: the live settings, and GET and PATCH /v1/config. In
// the daemon it is the layered store, in tests a struct.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/settings.h"

namespace keelback::server {

// Threads: the server calls everything from the driver's loop thread.
class ConfigPort {
 public:
  struct Document {
    std::string json;  // what GET /v1/config answers; secrets are already masked
    std::string etag;  // without quotes; changes with every change of a value
  };
  struct PatchError {
    enum class Kind {
      kStale,    // If-Match names an older version: nothing changed
      kInvalid,  // a key or value is wrong: nothing changed
    } kind = Kind::kInvalid;
    struct Item {
      std::string key;  // empty: the document as a whole
      std::string why;  // one sentence
    };
    std::vector<Item> items;
  };

  virtual ~ConfigPort() = default;
  // Read at each use, so that live keys are live. Valid until the next patch() or loop turn.
  virtual const Settings& settings() = 0;
  virtual Document document() = 0;
  // `flat`: a JSON object of dotted keys. All or nothing. if_match: an etag without quotes.
  virtual std::expected<Document, PatchError> patch(std::string_view flat,
                                                    std::optional<std::string_view> if_match) = 0;
};

}  // namespace keelback::server
