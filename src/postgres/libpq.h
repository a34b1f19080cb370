// PostgreSQL's client library, loaded when a cluster is configured and never before. It brings
// libraries of its own (TLS, Kerberos, LDAP), which a program without a cluster has no use for:
// neither at its start nor in a wheel. So nothing here is linked with it.
#pragma once

#include <libpq-fe.h>

#include <expected>
#include <memory>
#include <string>

// Every function that we call. PQpipelineSync is of libpq 14.
#define KEELBACK_LIBPQ_FUNCTIONS(X) \
  X(PQclear)                        \
  X(PQcmdTuples)                    \
  X(PQconnectPoll)                  \
  X(PQconnectStartParams)           \
  X(PQconninfoFree)                 \
  X(PQconninfoParse)                \
  X(PQconsumeInput)                 \
  X(PQenterPipelineMode)            \
  X(PQerrorMessage)                 \
  X(PQfinish)                       \
  X(PQflush)                        \
  X(PQfreemem)                      \
  X(PQgetisnull)                    \
  X(PQgetlength)                    \
  X(PQgetResult)                    \
  X(PQgetvalue)                     \
  X(PQisBusy)                       \
  X(PQnfields)                      \
  X(PQntuples)                      \
  X(PQpipelineSync)                 \
  X(PQresultErrorField)             \
  X(PQresultStatus)                 \
  X(PQsendQueryParams)              \
  X(PQsetNoticeReceiver)            \
  X(PQsetnonblocking)               \
  X(PQsocket)                       \
  X(PQstatus)

namespace keelback::postgres {

struct Libpq {
#define KEELBACK_LIBPQ_MEMBER(name) decltype(&::name) name = nullptr;
  KEELBACK_LIBPQ_FUNCTIONS(KEELBACK_LIBPQ_MEMBER)
#undef KEELBACK_LIBPQ_MEMBER
};

// Loads the library once for the whole process; it stays. Reads files: not on a loop that others
// wait for. Any thread. The error is one sentence for operators.
std::expected<const Libpq*, std::string> load_libpq();

struct ClearResult {
  const Libpq* libpq = nullptr;
  void operator()(PGresult* result) const { libpq->PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ClearResult>;

}  // namespace keelback::postgres
