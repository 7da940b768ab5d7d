"""Whom to treat: by rules, by budgets, and what that is worth."""
