// All of the C++ API. Start at Pool: Pool::start(Config("app.py")), then call("greet",
// "[\"Ada\"]").
#pragma once

#include "keelback/attachment.h"
#include "keelback/call.h"
#include "keelback/config.h"
#include "keelback/function.h"
#include "keelback/host_call.h"
#include "keelback/outcome.h"
#include "keelback/pool.h"
#include "keelback/result.h"
#include "keelback/session.h"
#include "keelback/status.h"
#include "keelback/stream.h"
#include "keelback/worker.h"
