// What the code of a running call asks for, as its worker's NESTED says.
#pragma once

#include <cstdint>
#include <memory>

#include "host/call_record.h"
#include "wire/messages.h"

namespace keelback::host {

struct WorkerAsk {
  std::uint64_t request = 0;  // the worker's number for it
  wire::NestedTarget target{};
  Call call;  // function or name, session, payload, deadline; of NESTED_CANCEL nothing
  std::unique_ptr<CallRecord> record;  // of a function of the application: made before the lock
};

}  // namespace keelback::host
