"""Arms of one stage of training: from one start, skipped with a reason, judged against their control."""
