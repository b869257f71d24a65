"""Lesions: interventions on neurons, the tasks that a model is scored on, matched controls and experiments."""
