/* Two nodes and one row of a session. A node claims the row if it is free or its owner is retired,
 * and then commits to the epoch of its claim. A node may be retired at any moment while it goes on,
 * requests may take effect late (the nodes' steps interleave freely), and a node that hears that it
 * was retired starts again. What is proved: no two nodes commit to one epoch, and no commit follows
 * the claim of another node.
 *
 * spin -run commit.pml                      holds
 * spin -run -DNO_CONDITION commit.pml       fails: a commit that looks at nothing
 * spin -run -DNO_RETIREMENT commit.pml      holds: the lease and the retirement only spare work
 */
#define NODES 2
#define EPOCHS 3
#define NOBODY 255

/* The row, and what the database knows of the nodes. */
byte epoch = 0;
byte owner = NOBODY;
byte token = 0;       /* of the last claim */
byte number = 0;      /* of the last commit */
byte last_token = 0;  /* every claim draws a token that no claim had */
bool retired[NODES];

/* Seen by nobody but the proof. */
byte committed_by[EPOCHS + 1];
byte latest_claimer = NOBODY;

active [NODES] proctype node() {
  byte me = _pid;
  byte my_epoch, my_token, my_number, seen_token;

start:
  atomic { retired[me] = false; my_token = 0 }
  do
  :: /* read the row: what is seen may be out of date at the next step */
     atomic { epoch < EPOCHS -> seen_token = token };
     /* claim it */
     atomic {
       if
       :: token == seen_token && epoch < EPOCHS &&
#ifdef NO_RETIREMENT
          true ->
#else
          (owner == NOBODY || owner == me || retired[owner]) ->
#endif
          last_token++;
          epoch++;
          owner = me;
          token = last_token;
          latest_claimer = me;
          my_epoch = epoch;
          my_token = token;
          my_number = number
       :: else -> my_token = 0
       fi
     };
     do
     :: my_token != 0 ->
        /* commit: one statement of the database */
        atomic {
          if
#ifdef NO_CONDITION
          :: true ->
#else
          :: token == my_token && epoch == my_epoch && number == my_number && number < 3 ->
#endif
             assert(latest_claimer == me);
             assert(committed_by[my_epoch] == 0 || committed_by[my_epoch] == me + 1);
             committed_by[my_epoch] = me + 1;
             number++;
             my_number = number
          :: else -> my_token = 0
          fi
        }
     :: my_token != 0 && owner == me && token == my_token ->
        atomic {  /* release */
          if
          :: token == my_token -> owner = NOBODY; my_token = 0
          :: else -> my_token = 0
          fi
        }
     :: break  /* the state in memory is dropped, or the process stands still for a while */
     od
  :: retired[me] -> goto start
  :: epoch >= EPOCHS -> break
  od
}

/* Other nodes retire a node whenever they believe that its lease is over. */
active proctype others() {
  byte retirements = 0;
  do
  :: retirements < 2 -> retired[0] = true; retirements++
  :: retirements < 2 -> retired[1] = true; retirements++
  :: break
  od
}
