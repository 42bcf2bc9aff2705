"""The numbers of all advisory locks. They are in one place, so that no two purposes use the same number."""

# Locks with one number.
APPEND_EVENT = 4_202_251_101
MIGRATE = 4_202_251_102
ADD_DOWNLOADS = 4_202_251_103
LEASE_JOBS = 4_202_251_104
EXTEND_CHAIN = 4_202_251_105

# Locks with two numbers: a class, and a key within the class. They can't clash with locks that have one number.
CONSUMER_CLASS = 4202
REBUILD_CLASS = 4204
