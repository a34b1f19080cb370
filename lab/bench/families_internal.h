// The families' blocks, each in the file of its kind.
#pragma once

#include "bench/family.h"

namespace keelback::bench {

// families_calls.cpp: what a call costs and how many there can be
void call_block(FamilyBlock& block);
void throughput_block(FamilyBlock& block);
void affinity_block(FamilyBlock& block);
void overload_block(FamilyBlock& block);
void http_block(FamilyBlock& block);

// families_life.cpp: how a pool lives and dies
void startup_block(FamilyBlock& block);
void recovery_block(FamilyBlock& block);
void memory_block(FamilyBlock& block);
void cleanup_block(FamilyBlock& block);
void idle_block(FamilyBlock& block);
void soak_block(FamilyBlock& block);

// families_growth.cpp: what grows with what
void scaling_block(FamilyBlock& block);

}  // namespace keelback::bench
