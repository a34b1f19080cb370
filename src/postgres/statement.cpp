#include "postgres/statement.h"

#include "base/check.h"

namespace keelback::postgres {
namespace {

// PostgreSQL's binary form is big-endian.
template <class Unsigned>
void append(std::string& out, Unsigned value) {
  for (int shift = 8 * (static_cast<int>(sizeof value) - 1); shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift & 0xff));
  }
}
void append32(std::string& out, std::int64_t value) {
  append(out, static_cast<std::uint32_t>(value));
}

std::uint64_t number(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

Type array_of(Type element) {
  switch (element) {
    case Type::kBool:
      return Type::kBoolArray;
    case Type::kBytea:
      return Type::kByteaArray;
    case Type::kInt8:
      return Type::kInt8Array;
    case Type::kInt4:
      return Type::kInt4Array;
    default:
      return Type::kTextArray;
  }
}

}  // namespace

void Array::add(std::string_view bytes) {
  append32(elements_, static_cast<std::int64_t>(bytes.size()));
  elements_ += bytes;
  ++count_;
}

void Array::add(std::int64_t value) {
  std::string bytes;
  append(bytes, static_cast<std::uint64_t>(value));
  add(bytes);
}

void Array::add(std::int32_t value) {
  std::string bytes;
  append(bytes, static_cast<std::uint32_t>(value));
  add(bytes);
}

void Array::add(bool value) { add(std::string_view(value ? "\1" : "\0", 1)); }

void Array::add_null() {
  append32(elements_, -1);
  has_null_ = true;
  ++count_;
}

std::string Array::encoded() const {
  std::string out;
  append32(out, count_ == 0 ? 0 : 1);  // dimensions
  append32(out, has_null_ ? 1 : 0);
  append32(out, static_cast<std::int64_t>(element_));
  if (count_ == 0) return out;
  append32(out, count_);
  append32(out, 1);  // the first element's number
  return out + elements_;
}

Statement& Statement::add(Type type, std::optional<std::string> value) {
  if (value) bytes_ += value->size();
  parameters_.push_back({type, std::move(value)});
  return *this;
}

Statement& Statement::text(std::string_view value) { return add(Type::kText, std::string(value)); }
Statement& Statement::bytes(std::string_view value) {
  return add(Type::kBytea, std::string(value));
}
Statement& Statement::int8(std::int64_t value) {
  std::string bytes;
  append(bytes, static_cast<std::uint64_t>(value));
  return add(Type::kInt8, std::move(bytes));
}
Statement& Statement::int4(std::int32_t value) {
  std::string bytes;
  append(bytes, static_cast<std::uint32_t>(value));
  return add(Type::kInt4, std::move(bytes));
}
Statement& Statement::boolean(bool value) {
  return add(Type::kBool, std::string(1, value ? '\1' : '\0'));
}
Statement& Statement::null(Type type) { return add(type, std::nullopt); }
Statement& Statement::array(const Array& array) {
  return add(array_of(array.element_), array.encoded());
}

bool Statement::send(const Libpq& libpq, PGconn* connection) const {
  std::vector<Oid> types;
  std::vector<const char*> values;
  std::vector<int> lengths;
  for (const Parameter& each : parameters_) {
    types.push_back(static_cast<Oid>(each.type));
    values.push_back(each.value ? each.value->data() : nullptr);
    lengths.push_back(each.value ? static_cast<int>(each.value->size()) : 0);
  }
  const std::vector<int> binary(parameters_.size(), 1);
  return libpq.PQsendQueryParams(connection, sql_, static_cast<int>(parameters_.size()),
                                 types.data(), values.data(), lengths.data(), binary.data(),
                                 1) == 1;
}

int Rows::size() const {
  return result_ ? result_.get_deleter().libpq->PQntuples(result_.get()) : 0;
}

bool Rows::is_null(int row, int column) const {
  return result_.get_deleter().libpq->PQgetisnull(result_.get(), row, column) == 1;
}

std::string_view Rows::text(int row, int column) const {
  const Libpq& libpq = *result_.get_deleter().libpq;
  return {libpq.PQgetvalue(result_.get(), row, column),
          static_cast<std::size_t>(libpq.PQgetlength(result_.get(), row, column))};
}

std::int64_t Rows::int8(int row, int column) const {
  return static_cast<std::int64_t>(number(text(row, column)));
}
std::int32_t Rows::int4(int row, int column) const {
  return static_cast<std::int32_t>(number(text(row, column)));
}
bool Rows::boolean(int row, int column) const { return number(text(row, column)) != 0; }

}  // namespace keelback::postgres
