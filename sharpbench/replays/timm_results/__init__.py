"""Published accuracies of timm's models on ImageNet and five other test sets, judged by our statistics."""
