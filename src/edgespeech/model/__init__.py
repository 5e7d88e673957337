"""The on-device model: transcriber, predictor and joiner, the transducer loss, word pieces, checkpoints."""
