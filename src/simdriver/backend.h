// The simulator as a backend: `pool.backend = sim`, for tests. It is no part of libkeelback; a
// program that wants it links this folder and registers it.
#pragma once

namespace keelback::simdriver {

// Once, before the first pool is started. True, so that a constant can be initialised with it.
bool register_backend();

}  // namespace keelback::simdriver
