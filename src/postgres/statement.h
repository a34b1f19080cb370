// One statement with its parameters, and the rows that came back. Both in PostgreSQL's binary form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "postgres/libpq.h"

namespace keelback::postgres {

// Types of parameters, by the numbers that PostgreSQL fixes for all time (pg_type.dat).
enum class Type : Oid {
  kBool = 16,
  kBytea = 17,
  kInt8 = 20,
  kInt4 = 23,
  kText = 25,
  kBoolArray = 1000,
  kByteaArray = 1001,
  kInt4Array = 1007,
  kTextArray = 1009,
  kInt8Array = 1016,
};

// A column of a statement that works on many rows at once: $1::text[].
class Array {
 public:
  explicit Array(Type element) : element_(element) {}
  void add(std::string_view bytes);  // a text or a bytea
  void add(std::int64_t value);
  void add(std::uint64_t value) { add(static_cast<std::int64_t>(value)); }
  void add(std::int32_t value);
  void add(bool value);
  void add_null();

 private:
  friend class Statement;
  std::string encoded() const;

  Type element_;
  std::int32_t count_ = 0;
  bool has_null_ = false;
  std::string elements_;
};

class Statement {
 public:
  // `sql` has static storage.
  explicit Statement(const char* sql) : sql_(sql) {}

  // Parameters, from $1 on. A 64-bit number without a sign is stored as the bigint of the same
  // bits.
  Statement& text(std::string_view value);
  Statement& bytes(std::string_view value);
  Statement& int8(std::int64_t value);
  Statement& uint8(std::uint64_t value) { return int8(static_cast<std::int64_t>(value)); }
  Statement& int4(std::int32_t value);
  Statement& boolean(bool value);
  Statement& null(Type type);
  Statement& array(const Array& array);

  const char* sql() const { return sql_; }
  std::size_t bytes() const { return bytes_; }  // of all parameters
  // False: libpq did not take it.
  bool send(const Libpq& libpq, PGconn* connection) const;

 private:
  struct Parameter {
    Type type;
    std::optional<std::string> value;
  };
  Statement& add(Type type, std::optional<std::string> value);

  const char* sql_;
  std::vector<Parameter> parameters_;
  std::size_t bytes_ = 0;
};

// What a statement gave back. Columns are counted from 0; the caller knows their types.
class Rows {
 public:
  Rows() = default;
  explicit Rows(ResultPtr result) : result_(std::move(result)) {}

  int size() const;
  bool is_null(int row, int column) const;
  std::string_view text(int row, int column) const;  // or a bytea; lives as long as the rows
  std::int64_t int8(int row, int column) const;
  std::uint64_t uint8(int row, int column) const {
    return static_cast<std::uint64_t>(int8(row, column));
  }
  std::int32_t int4(int row, int column) const;
  bool boolean(int row, int column) const;

 private:
  ResultPtr result_;
};

}  // namespace keelback::postgres
