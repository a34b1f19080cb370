#include "postgres/answer_bytes.h"

#include <array>
#include <cstdint>

namespace keelback::postgres {
namespace {

constexpr char kLayout = 1;

void put_number(std::string& out, std::uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8)
    out.push_back(static_cast<char>(value >> shift & 255));
}
void put_text(std::string& out, std::string_view text) {
  put_number(out, text.size());
  out += text;
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  char byte() { return ok_ && need(1) ? take(1).front() : '\0'; }
  std::uint64_t number() {
    if (!ok_ || !need(8)) return 0;
    std::uint64_t value = 0;
    const std::string_view bytes = take(8);
    for (int i = 7; i >= 0; --i) {
      value = value << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
    }
    return value;
  }
  std::string_view text() {
    const std::uint64_t size = number();
    return ok_ && need(size) ? take(size) : std::string_view();
  }

 private:
  bool need(std::uint64_t size) { return ok_ = ok_ && size <= rest_.size(); }
  std::string_view take(std::uint64_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

constexpr std::array kEffects = {Effect::kNone, Effect::kMaybe, Effect::kDone};

}  // namespace

std::string to_bytes(const cluster::Answer& answer) {
  std::string out(1, kLayout);
  put_text(out, answer.key);
  put_number(out, answer.fingerprint);
  put_text(out, to_string(answer.kind));
  put_text(out, to_string(answer.effect));
  for (const std::string* text :
       {&answer.payload, &answer.message, &answer.type, &answer.error, &answer.traceback}) {
    put_text(out, *text);
  }
  return out;
}

std::optional<cluster::Answer> answer_from(std::string_view bytes) {
  Reader reader(bytes);
  cluster::Answer answer;
  const bool known = reader.byte() == kLayout;
  answer.key = reader.text();
  answer.fingerprint = reader.number();
  const auto kind = outcome_kind_from(reader.text());
  const std::string_view effect = reader.text();
  for (std::string* text :
       {&answer.payload, &answer.message, &answer.type, &answer.error, &answer.traceback}) {
    *text = reader.text();
  }
  if (!known || !reader.ok() || !kind) return std::nullopt;
  answer.kind = *kind;
  for (const Effect each : kEffects) {
    if (to_string(each) == effect) answer.effect = each;
  }
  return answer;
}

}  // namespace keelback::postgres
